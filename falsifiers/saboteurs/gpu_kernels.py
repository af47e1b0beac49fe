"""Faults in the route of a GPU: in its kernels' text, and in what launches them."""

import torch

from falsifiers.triton_cases import mutant, running


def gpu_drops_the_minimum(plant):
    """One token's product leaves out what Q4_K and Q5_K subtract."""
    faulty = mutant("total -= least * tl.sum(plain, 1)[:, None]", "total -= 0.0")
    plant("engine.launch.matvec", running("matvec", faulty))


def gpu_forgets_the_places_turn(plant):
    """One token's product takes the nibbles of a word as if no group had turned them."""
    faulty = mutant("((turn ^ n) * W)[:, None]", "((turn * 0 + n) * W)[:, None]")
    plant("engine.launch.matvec", running("matvec", faulty))


def gpu_swaps_halves_of_a_byte(plant):
    """Weights are packed with the high halves of bytes first."""

    def fault(nibbles):
        return lambda packed, size: nibbles((packed >> 4) | (packed << 4), size)

    plant("engine.packed._nibbles", fault)


def gpu_keeps_scales_in_16_bits(plant):
    """Scales are kept in two bytes and not in 12 bits, so that the weights grow."""

    def fault(named):
        def faulty(kind, made):
            lo, hi, sc, d = named(kind, made)
            return lo, hi, sc if sc is lo else torch.cat([sc, sc[:, : sc.shape[1] // 3]], 1), d

        return faulty

    plant("engine.packed._named", fault)


def gpu_loses_the_last_group(plant):
    """One token's product ends one group early."""
    faulty = mutant("inside = s < SLOTS * groups", "inside = s < SLOTS * groups - 1")
    plant("engine.launch.matvec", running("matvec", faulty))


def gpu_loses_the_last_column(plant):
    """Many tokens' product leaves the last row of the matrix out."""
    whole = "used = column < count\n    if GROUPED:"
    faulty = mutant(whole, whole.replace("count", "count - 1"))
    plant("engine.launch.matmul", running("matmul", faulty))


def gpu_scales_of_the_first_group(plant):
    """Many tokens' product takes every word's scale from its row's first group."""
    faulty = mutant(
        "scale, least = _scale(sc, d, at, mask, TYPE)\n            scale *=",
        "scale, least = _scale(sc, d, at * 0 + row[:, None] * groups, mask, TYPE)\n"
        "            scale *=",
    )
    plant("engine.launch.matmul", running("matmul", faulty))


def gpu_router_does_not_renormalise(plant):
    """The shares are those of the softmax over all experts."""
    faulty = mutant(
        "share /= tl.sum(share, 0)",
        'every = tl.load(logits + token * E + at, mask=at < E, other=-float("inf"))\n'
        "    share /= tl.sum(tl.exp(every - first), 0)",
    )
    plant("engine.launch.top_experts", running("top_experts", faulty))


def gpu_router_takes_the_last_of_equals(plant):
    """Of equal logits the highest index goes first."""
    faulty = mutant(
        "index = tl.min(tl.where(left == best, at, TILE), 0)",
        "index = tl.max(tl.where(left == best, at, -1), 0)",
    )
    plant("engine.launch.top_experts", running("top_experts", faulty))


def gpu_swaps_two_experts(plant):
    """Tokens for expert 0 go to expert 1, and the other way round."""

    def fault(top_experts):
        def faulty(logits, k):
            shares, experts = top_experts(logits, k)
            return shares, torch.where(experts < 2, 1 - experts, experts)

        return faulty

    plant("engine.launch.top_experts", fault)


def gpu_drops_a_groups_last_token(plant):
    """The last token of each expert's tokens is left out, and what stood there stays."""
    end = "end = tl.sum(tl.where(expert == owner, ends, 0), 0)"
    faulty = mutant(end, f"{end} - 1")
    for name in ("matmul", "matmul_swiglu"):
        plant(f"engine.launch.{name}", running(name, faulty))
    plant("engine.launch.torch.empty", lambda empty: torch.zeros)


def gpu_mixes_up_a_tokens_pairs(plant):
    """What goes to a token's first expert counts as its second's, and the other way round."""
    stored = "tl.cumsum(mine, 0) - 1, start + lane,"
    faulty = mutant(stored, stored.replace("start + lane", "(start + lane) ^ 1"))
    plant("engine.launch.group", running("group", faulty))


def gpu_forgets_a_tokens_factor(plant):
    """Many tokens' product is not multiplied by what its tokens were divided by."""
    factor = "made * (unit * tl.load(factors + source, mask=valid, other=0.0))[None, :]"
    faulty = mutant(factor, "made * unit")
    plant("engine.launch.matmul", running("matmul", faulty))


def gpu_weights_leave_float16(plant):
    """Weights are brought below the range of float16."""
    plant("engine.packed._unit", lambda unit: lambda largest: unit(largest) * 2.0**40)


def gpu_ignores_the_second_expert(plant):
    """One token's experts after the first are taken to be the first."""
    faulty = mutant("chosen = experts + slot\n", "chosen = experts\n")
    plant("engine.launch.matvec_swiglu", running("matvec_swiglu", faulty))


def gpu_ignores_the_window(plant):
    """One token sees all positions."""
    faulty = mutant("begin = tl.maximum(length + 1 - window, 0)", "begin = 0")
    plant("engine.launch.attend_one", running("attend_one", faulty))


def gpu_forgets_the_other_shares(plant):
    """Of the shares of the cache only the first counts."""
    faulty = mutant(
        "weight = tl.exp(peak - tl.max(peak, 0))",
        "weight = tl.where(split == 0, tl.exp(peak - tl.max(peak, 0)), 0.0)",
    )
    plant("engine.launch.attend_one", running("join_splits", faulty))


def gpu_sees_the_next_token(plant):
    """Many tokens' attention sees one position too many."""
    seen = "seen = other[None, :] <= place[:, None]"
    faulty = mutant(seen, f"{seen} + 1")
    plant("engine.launch.attend_many", running("attend_many", faulty))


def gpu_caches_keys_before_the_norm(plant):
    """One token's key goes into the cache neither normed nor turned."""
    faulty = mutant(
        "tl.store(keys + new, na, mask=half[None, :])",
        "tl.store(keys + new, tl.load(k + kv * D + at, mask=half, other=0.0)[None, :], "
        "mask=half[None, :])",
    )
    plant("engine.launch.attend_one", running("attend_one", faulty))


def gpu_mixes_up_keys_and_values(plant):
    """Attention takes values for keys, and keys for values."""

    def fault(attend):
        def faulty(self, projected, *arguments):
            q, k, v = projected
            return attend(self, (q, v, k), *arguments)

        return faulty

    plant("engine.gpu.Gpu.attend", fault)


def gpu_step_keeps_its_first_position(plant):
    """A token's pass stays at the position of the first one."""

    def fault(call):
        def faulty(self, token, position, through):
            self.first = getattr(self, "first", position)
            return call(self, token, self.first, through)

        return faulty

    plant("engine.gpu.Step.__call__", fault)


def gpu_step_keeps_its_first_token(plant):
    """A token's pass is of the first token again."""

    def fault(call):
        def faulty(self, token, position, through):
            self.first = getattr(self, "first", token)
            return call(self, self.first, position, through)

        return faulty

    plant("engine.gpu.Step.__call__", fault)


def gpu_step_depends_on_the_last(plant):
    """The same token at the same position gives other bits when it comes again."""

    def fault(call):
        def faulty(self, *arguments):
            self.calls = getattr(self, "calls", 0) + 1
            return call(self, *arguments) * (1 + self.calls * 2**-20)

        return faulty

    plant("engine.gpu.Step.__call__", fault)


def gpu_takes_all_memory(plant):
    """Memory may be used to the last byte."""

    def fault(require):
        def faulty(device, sizes, what=""):
            from engine import gpu

            cap, gpu.CAP = gpu.CAP, 1.0
            try:
                require(device, sizes, what)
            finally:
                gpu.CAP = cap

        return faulty

    plant("engine.gpu.require_memory", fault)


def gpu_looks_at_total_memory(plant):
    """What others hold of the device's memory is not counted."""

    def fault(require):
        def faulty(device, sizes, what=""):
            seen = torch.cuda.mem_get_info
            torch.cuda.mem_get_info = lambda device=None: (seen(device)[1], seen(device)[1])
            try:
                require(device, sizes, what)
            finally:
                torch.cuda.mem_get_info = seen

        return faulty

    plant("engine.gpu.require_memory", fault)


def gpu_places_and_then_looks(plant):
    """Weights are placed before it is known that they fit."""

    def fault(placing):
        def faulty(self, weights):
            from engine import gpu

            for weight in weights.values():
                gpu.place(weight, self.device)
            return placing(self, weights)

        return faulty

    plant("engine.gpu.Gpu.place", fault)


def gpu_counts_half_of_the_cache(plant):
    """Values are not counted, only keys."""
    plant("engine.cache.KVCache.bytes", lambda size: lambda self, n: size(self, n) // 2)


def gpu_trusts_the_device(plant):
    """It is not looked whether the device is there and can run the kernels."""
    plant("engine.gpu.require_device", lambda require: lambda device: None)
    plant("engine.gpu.torch.cuda.set_device", lambda set_device: lambda device: None)
