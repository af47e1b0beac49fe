"""Faults in the torch route, and in how a route is chosen and said."""

from dataclasses import replace

import torch

from engine.errors import EngineError


def zero_term_dropped(plant):
    """4-bit numbers lose what is added to each group."""

    def fault(laid_out):
        def faulty(weight, raw):
            numbers, scales = laid_out(weight, raw)
            return numbers, scales * torch.tensor([1, 0])

        return faulty

    plant("engine.int4._laid_out", fault)


def packed_nibbles_swapped(plant):
    """The two numbers of a byte change places after packing."""

    def fault(laid_out):
        def faulty(weight, raw):
            numbers, scales = laid_out(weight, raw)
            return (numbers >> 4) | (numbers << 4), scales

        return faulty

    plant("engine.int4._laid_out", fault)


def scale_of_the_neighbour(plant):
    """Each group takes the scale of the group before it."""

    def fault(laid_out):
        def faulty(weight, raw):
            numbers, scales = laid_out(weight, raw)
            return numbers, scales.roll(1, dims=0)

        return faulty

    plant("engine.int4._laid_out", fault)


def last_group_lost(plant):
    """The last columns of a row count for nothing."""

    def fault(call):
        return lambda self, x: call(self, torch.cat([x[:, :-32], torch.zeros_like(x[:, -32:])], 1))

    plant("engine.int4.Packed.__call__", fault)


def cast_to_eight_bits(plant):
    """Weights that should have 16 bits have 8."""

    def fault(sixteen_bits):
        return lambda matrix, half: sixteen_bits(matrix.to(torch.float8_e4m3fn).float(), half)

    plant("engine.int4._sixteen_bits", fault)


def rows_of_parts_in_reverse(plant):
    """A large matrix gives the numbers of its last rows first."""
    plant("engine.int4.Parts.__call__", lambda call: lambda self, x: call(self, x).flip(-1))


def experts_change_places(plant):
    """The first two experts of a layer change places."""

    def fault(of_stack):
        return lambda self, stack, index: of_stack(self, stack, {0: 1, 1: 0}.get(index, index))

    plant("engine.int4.Int4._of_stack", fault)


def fast_norm_forgets_the_sum(plant):
    """What a block made is normed, and not added to the stream."""

    def fault(norm):
        def faulty(self, x, delta, gain, epsilon):
            return x, norm(self, x, delta, gain, epsilon)[1]

        return faulty

    plant("engine.int4.Int4.norm", fault)


def one_query_sees_no_window(plant):
    """A token alone sees all positions, those beyond its window included."""

    def fault(attend):
        def faulty(self, projected, heads, angles, cache):
            alone = len(projected[0]) == 1
            return attend(
                self, projected, replace(heads, window=0) if alone else heads, angles, cache
            )

        return faulty

    plant("engine.int4.Int4.attend", fault)


def one_query_misses_itself(plant):
    """A token alone does not see its own position, unless there is no other."""

    def fault(attend):
        def faulty(q, k, v):
            end = max(1, k.shape[1] - 1)
            return attend(q, k[:, :end], v[:, :end])

        return faulty

    plant("engine.int4._attend_once", fault)


def threads_decide(plant):
    """The result depends on the number of threads."""

    def fault(linear):
        def faulty(self, x, weights):
            noise = 0.3 * (torch.get_num_threads() - 1)
            return [y + noise * y.roll(1, -1) for y in linear(self, x, weights)]

        return faulty

    plant("engine.int4.Int4.linear", fault)


def whole_stack_laid_out(plant):
    """The first expert that is used brings all others with it."""

    def fault(of_stack):
        def faulty(self, stack, index):
            for each in range(stack.shape[0]):
                of_stack(self, stack, each)
            return of_stack(self, stack, index)

        return faulty

    plant("engine.int4.Int4._of_stack", fault)


def laid_out_at_each_use(plant):
    """Nothing that was laid out is kept."""

    def fault(of_stack):
        def faulty(self, stack, index):
            self._stacks.pop(stack, None)
            return of_stack(self, stack, index)

        return faulty

    plant("engine.int4.Int4._of_stack", fault)


def kept_for_ever(plant):
    """What was laid out outlives its weight."""
    kept = []

    def fault(of_stack):
        def faulty(self, stack, index):
            kept.append(stack)
            return of_stack(self, stack, index)

        return faulty

    plant("engine.int4.Int4._of_stack", fault)


def empty_blocks_are_zeros(plant):
    """A weight without data is a matrix of zeros."""

    def fault(make):
        def faulty(weight, half):
            if not any(part.size for part in weight.parts):
                return lambda x: x.new_zeros(len(x), weight.shape[0])
            return make(weight, half)

        return faulty

    plant("engine.int4.product", fault)


def scales_unguarded(plant):
    """A NaN in a scale goes through."""
    plant("engine.weights.require_finite", lambda guard: lambda weight, x: None)


def silent_fallback(plant):
    """A route that was asked for and cannot run is replaced by another."""

    def fault(choose):
        def faulty(name="auto", device="cpu"):
            try:
                return choose(name, device)
            except EngineError:
                return choose("plain")

        return faulty

    plant("engine.routes.choose", fault)


def reason_left_out(plant):
    """The line says which route runs, but not why."""

    def fault(choose):
        def faulty(name="auto", device="cpu"):
            choice = choose(name, device)
            return replace(choice, reason=choice.reason.partition(":")[0])

        return faulty

    plant("engine.routes.choose", fault)


def wrong_reason(plant):
    """Whatever was asked for, the line says that the fastest was taken."""

    def fault(named):
        return lambda route, why: named(route, "the fastest path that this processor has")

    plant("engine.routes._named", fault)


def always_plain(plant):
    """Every name gives the plain route."""

    def fault(choose):
        return lambda name="auto", device="cpu": replace(choose(name, device), route=None)

    plant("engine.routes.choose", fault)


def start_says_nothing(plant):
    """Nobody is told which route runs."""
    plant("engine.cli_options.say", lambda say: lambda choice: None)
