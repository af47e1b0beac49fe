"""Faults in encoding weights and in reading parts of them."""

import torch

from engine.weights import Blocks, Floats


def rounds_towards_zero(plant):
    """Numbers are cut to the grid and not rounded."""

    def fault(ratio):
        return lambda x, step: torch.where(step == 0, 0 * x, x / step).trunc()

    plant("engine.quant._ratio", fault)


def fifth_bit_unused(plant):
    """Q5_K's grid has 16 steps, as Q4_K's."""
    plant("engine.quant._by_range", lambda by_range: lambda x, most: by_range(x, 15))


def minimum_takes_the_mean(plant):
    """The offset of a block is taken from its mean, so that its low end is cut off."""

    def fault(by_range):
        return lambda x, most: by_range(x.clamp(min=-x.abs().mean()), most)

    plant("engine.quant._by_range", fault)


def last_piece_dropped(plant):
    """The rows that do not fill a piece are left out."""

    def fault(pieces):
        def faulty(self, device="cpu"):
            found = list(pieces(self, device))
            yield from found[:-1] or found

        return faulty

    plant("engine.weights.Blocks.pieces", fault)


def rows_of_the_next_token(plant):
    """A look-up is one row off."""
    plant(
        "engine.weights.Blocks.rows",
        lambda rows: (
            lambda self, ids, device="cpu": rows(
                self, [(index + 1) % self.shape[0] for index in ids], device
            )
        ),
    )


def first_matrix_of_the_stack(plant):
    """Whichever matrix of a stack is asked for, the first is given."""
    plant("engine.weights.Blocks.__getitem__", lambda getitem: lambda self, index: getitem(self, 0))


def parts_in_reverse(plant):
    """Matrices that are stored apart are put together from the last to the first."""

    def fault(whole):
        return lambda self: whole(Blocks(self.name, self.parts[::-1], self.type, self.shape))

    plant("engine.weights.Blocks._whole", fault)


def stack_decoded_for_one_expert(plant):
    """One expert is cut from the decoded stack of all."""

    def fault(getitem):
        def faulty(self, index):
            return Floats(f"{self.name}[{index}]", self.dequantise()[index])

        return faulty

    plant("engine.weights.Blocks.__getitem__", fault)


def embedding_decoded_for_one_row(plant):
    """A look-up decodes the whole table."""

    def fault(rows):
        return lambda self, ids, device="cpu": self.dequantise(device)[list(ids)]

    plant("engine.weights.Blocks.rows", fault)


def matrix_decoded_whole(plant):
    """A large matrix is decoded in one piece."""

    def fault(pieces):
        def faulty(self, device="cpu"):
            yield self.dequantise(device)

        return faulty

    plant("engine.weights.Blocks.pieces", fault)
