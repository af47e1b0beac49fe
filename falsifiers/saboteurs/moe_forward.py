"""Faults in loading and in the forward pass: each gives a model that still writes fluent text."""

from dataclasses import replace

import torch

from engine.errors import TensorError


def qk_norm_missing(plant):
    """Queries and keys go into RoPE without their RMSNorm."""

    def fault(rms_norm):  # x is [heads, T, D] there, and [T, H] elsewhere
        return lambda x, gain, epsilon: x if x.dim() > 2 else rms_norm(x, gain, epsilon)

    plant("engine.attention.rms_norm", fault)


def rope_base_1e4(plant):
    """The RoPE base is the usual 10,000 and not the file's."""

    def fault(frequencies):
        return lambda base, size, scaling: frequencies(1e4, size, scaling)

    plant("engine.rope.frequencies", fault)


def rope_interleaved(plant):
    """RoPE rotates the neighbours (2i, 2i+1) and not the halves (i, i + D/2)."""

    def fault(rotate):
        def faulty(x, cos, sin):
            halves = torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
            a, b = rotate(halves, cos, sin).chunk(2, dim=-1)
            return torch.stack([a, b], dim=-1).flatten(-2)

        return faulty

    plant("engine.rope.rotate", fault)


def norm_epsilon_hard_coded(plant):
    """The epsilon of every RMSNorm is 1e-6 and not the file's."""
    plant("engine.attention.rms_norm", lambda rms_norm: lambda x, gain, _: rms_norm(x, gain, 1e-6))


def causal_mask_missing(plant):
    """Every position attends to those after it too."""

    def fault(attention):
        def faulty(q, k, v, window=0):
            group = q.shape[0] // k.shape[0]
            k, v = k.repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)
            return torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v

        return faulty

    plant("engine.attention.attention", fault)


def _blocks(plant, kind, size, change):
    """Change the bytes of every block of one tensor type before they are decoded."""

    def fault(dequantise):
        def faulty(raw, type_, *args, **kwargs):
            if type_ == kind:
                raw = change(raw.reshape(-1, size).copy()).reshape(-1)
            return dequantise(raw, type_, *args, **kwargs)

        return faulty

    plant("engine.quant.dequantise", fault)


def q6_k_scale_sign_dropped(plant):
    """Q6_K's scales lose their sign: half the sub-blocks come out negated."""

    def positive(blocks):
        scales = blocks[:, 192:208].view("int8")
        blocks[:, 192:208] = abs(scales.astype("int16")).astype("uint8")
        return blocks

    _blocks(plant, "Q6_K", 210, positive)


def q4_k_minimum_added(plant):
    """Q4_K's minimum is added to the scaled value and not subtracted from it."""

    def negated(blocks):
        blocks[:, 3] ^= 0x80  # the sign bit of dmin
        return blocks

    _blocks(plant, "Q4_K", 144, negated)


def q4_k_nibbles_swapped(plant):
    """Q4_K's high nibble is read before the low one."""

    def swapped(blocks):
        blocks[:, 16:] = blocks[:, 16:] >> 4 | blocks[:, 16:] << 4
        return blocks

    _blocks(plant, "Q4_K", 144, swapped)


def q5_k_high_bits_dropped(plant):
    """Q5_K's numbers lose their fifth bit."""

    def without(blocks):
        blocks[:, 16:48] = 0
        return blocks

    _blocks(plant, "Q5_K", 176, without)


def q8_0_sign_dropped(plant):
    """Q8_0's numbers lose their sign."""

    def positive(blocks):
        blocks[:, 2:] &= 0x7F
        return blocks

    _blocks(plant, "Q8_0", 34, positive)


def q4_0_nibbles_swapped(plant):
    """Q4_0's high nibbles come before the low ones."""

    def swapped(blocks):
        blocks[:, 2:] = blocks[:, 2:] >> 4 | blocks[:, 2:] << 4
        return blocks

    _blocks(plant, "Q4_0", 18, swapped)


def bfloat16_read_as_float16(plant):
    """The bytes of bfloat16 numbers are decoded as float16."""

    def fault(dequantise):
        def faulty(raw, kind, *args, **kwargs):
            return dequantise(raw, "F16" if kind == "BF16" else kind, *args, **kwargs)

        return faulty

    plant("engine.quant.dequantise", fault)


def missing_tensors_accepted(plant):
    """The loader does not compare the file's tensors with the architecture's."""
    plant("engine.layout.check_tensors", lambda check: lambda config, tensors: None)


def tensor_error_names_nothing(plant):
    """The loader refuses a bad file without saying which tensor is wrong."""

    def fault(check_tensors):
        def faulty(config, tensors):
            try:
                check_tensors(config, tensors)
            except TensorError as error:
                raise TensorError("the model cannot be loaded") from error

        return faulty

    plant("engine.layout.check_tensors", fault)


def dense_loader_used(plant):
    """Every file is loaded as a dense model: its feed-forward has no experts."""

    def fault(from_metadata):
        def faulty(cls, metadata):
            config = from_metadata(cls, metadata)
            width = config.feed_forward_length or config.expert_feed_forward_length
            return replace(config, architecture="qwen3", feed_forward_length=width)

        return faulty

    plant("engine.config.ModelConfig.from_metadata", fault)


def generation_ends_at_once(plant):
    """The last token of the vocabulary, which ends the turn, is always drawn."""
    plant("engine.generate.sample", lambda sample: lambda logits, *_: logits.shape[-1] - 1)
