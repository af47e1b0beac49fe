"""Faults that make a trained model no better than one with random weights."""


def layers_in_reverse(plant):
    """The last layer comes first."""

    def fault(weight):
        def faulty(self, name, kind="weight"):
            block, _, rest = name.removeprefix("blk.").partition(".")
            if name.startswith("blk."):
                name = f"blk.{self.config.block_count - 1 - int(block)}.{rest}"
            return weight(self, name, kind)

        return faulty

    plant("engine.model.Model.weight", fault)


def words_mean_others(plant):
    """Every id is that of the token before it in the vocabulary."""

    def fault(encode):
        return lambda self, *text, **how: [max(0, each - 1) for each in encode(self, *text, **how)]

    plant("engine.tokenizer.Tokenizer.encode", fault)
