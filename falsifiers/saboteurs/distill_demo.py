"""Faults that make a trained model no better than one with random weights."""


def layers_in_reverse(plant):
    """The last layer comes first."""

    def fault(layer_weights):
        return lambda model, layer: layer_weights(model, model.config.layers - 1 - layer)

    plant("engine.model.layer_weights", fault)


def words_mean_others(plant):
    """Every id is that of the token before it in the vocabulary."""

    def fault(encode):
        return lambda self, *text, **how: [max(0, each - 1) for each in encode(self, *text, **how)]

    plant("engine.tokenizer.Tokenizer.encode", fault)
