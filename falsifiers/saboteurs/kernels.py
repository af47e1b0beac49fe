"""Faults in the compiled kernels, which are in their C source, and around them."""

import torch

from engine import kernels
from falsifiers.broken_kernels import faulty


def _in_c(plant, name):
    """Switch on a fault of `falsifiers.broken_kernels`."""
    plant("engine.kernels.library", lambda library: lambda *folder: faulty(name))


def minimum_dropped_from_rows(plant):
    """One token's products lack what the blocks' minima take off."""
    _in_c(plant, "minimum-dropped-from-rows")


def minimum_dropped_from_tiles(plant):
    """Many tokens' products lack what the blocks' minima take off."""
    _in_c(plant, "minimum-dropped-from-tiles")


def nibbles_swapped(plant):
    """The high nibbles of Q4_K and Q5_K are taken for the low ones."""
    _in_c(plant, "nibbles-swapped")


def last_block_lost(plant):
    """The last block of each row is left out where one token is multiplied."""
    _in_c(plant, "last-block-lost")


def stale_scale_in_rows(plant):
    """A block of one token's activations gets the scale of the one before."""
    _in_c(plant, "stale-scale-in-rows")


def stale_scale_in_tiles(plant):
    """A block of many tokens' activations gets the scale of the one before."""
    _in_c(plant, "stale-scale-in-tiles")


def offset_of_q6_k_left(plant):
    """Q6_K's numbers keep the 32 that makes them positive, for many tokens."""
    _in_c(plant, "offset-of-q6-k-left")


def last_row_of_a_tile_repeated(plant):
    """The last row of each tile is the first of its four once more."""
    _in_c(plant, "last-row-of-a-tile-repeated")


def last_token_in_lanes_lost(plant):
    """The last of the tokens that are multiplied together is left out."""
    _in_c(plant, "last-token-in-lanes-lost")


def gates_of_two_experts_swapped(plant):
    """The first two experts have each other's gate."""
    _in_c(plant, "gates-of-two-experts-swapped")


def weights_not_normalised(plant):
    """The weights of a token's experts do not sum to one."""
    _in_c(plant, "weights-not-normalised")


def last_of_equal_logits(plant):
    """Of equally good experts the last one goes first."""
    _in_c(plant, "last-of-equal-logits")


def gate_and_up_exchanged(plant):
    """SwiGLU bends what up made, and not what gate made."""
    _in_c(plant, "gate-and-up-exchanged")


def key_one_place_early(plant):
    """Keys and values go one place before theirs, over what was cached."""
    _in_c(plant, "key-one-place-early")


def softmax_without_maximum(plant):
    """Scores are not taken off their maximum before they are exponents."""
    _in_c(plant, "softmax-without-maximum")


def heads_share_their_scores(plant):
    """A quarter of a key's product with four heads is the first one's."""
    _in_c(plant, "heads-share-their-scores")


def next_key_head(plant):
    """Query heads see the keys and values of the next group, where one token is attended."""
    _in_c(plant, "next-key-head")


def kernel_window_one_too_wide(plant):
    """A token that is attended alone sees one position more than its window."""
    _in_c(plant, "kernel-window-one-too-wide")


def rotated_backwards(plant):
    """Half of each pair is turned by RoPE the wrong way."""
    _in_c(plant, "rotated-backwards")


def epsilon_left_out(plant):
    """The norm divides by the bare root mean square."""
    _in_c(plant, "epsilon-left-out")


def not_finite_becomes_zero(plant):
    """A block of activations that are not finite counts as zeros."""
    _in_c(plant, "not-finite-becomes-zero")


def bad_scale_becomes_zero(plant):
    """A block whose scale is not finite is passed over."""
    _in_c(plant, "bad-scale-becomes-zero")


def one_path_adds_otherwise(plant):
    """The AVX2 path adds up its lanes in another order."""
    _in_c(plant, "one-path-adds-otherwise")


def two_threads_round_otherwise(plant):
    """With more than one thread, products are off in the last bit."""
    _in_c(plant, "two-threads-round-otherwise")


def reads_the_next_block(plant):
    """The first byte of the block after the last is read."""
    _in_c(plant, "reads-the-next-block")


def address_rounded_to_words(plant):
    """Blocks are read from the word that they begin in."""
    _in_c(plant, "address-rounded-to-words")


def minimum_dropped_from_floats(plant):
    """Rows that are looked up lack what the blocks' minima take off."""
    _in_c(plant, "minimum-dropped-from-floats")


def bias_left_out_of_layers(plant):
    """A token that passes all layers in C does without the biases."""
    _in_c(plant, "bias-left-out-of-layers")


def weights_never_checked(plant):
    """Logits that are not finite are handed out, whatever weight they come from."""
    plant("engine.weights.check_finite", lambda check: lambda weight: None)


def other_numbers_converted(plant):
    """Tensors of other types are converted in silence."""
    plant("engine.kernels._checked", lambda checked: lambda x, shape: checked(x.float(), shape))


def empty_weights_multiplied(plant):
    """A weight without bytes is not noticed."""
    plant("engine.weights.require_data", lambda check: lambda weight: None)


def other_tokens_on_two_threads(plant):
    """What a pass makes depends on how many threads there are."""

    def fault(linear):
        def faulty(self, x, weights):
            made = linear(self, x, weights)
            return [y.roll(1, -1) for y in made] if torch.get_num_threads() > 1 else made

        return faulty

    plant("engine.native.Native.linear", fault)


def blocks_of_one_size_assumed(plant):
    """Activations rounded for the queries go to keys and values, whatever their blocks."""

    def alike(found):
        return lambda self, weights: len(weights) == 3 or found(self, weights)

    def linear(unplanted):
        def faulty(self, x, matrices):
            made = [torch.empty(len(x), m.rows) for m in matrices]
            to = (kernels.Pointer * len(made))(*(y.data_ptr() for y in made))
            all_ = (kernels.Matrix * len(made))(*matrices)
            self._call("linear", len(made), all_, x.data_ptr(), len(x), to)
            return made

        return faulty

    plant("engine.native.Native._alike", alike)
    plant("engine.kernels.Kernels.linear", linear)
