"""Which tensors each architecture has, and in what shapes.

Knows tensor names; knows nothing of how they are used or decoded.
"""

from collections.abc import Iterator, Mapping
from math import prod

from engine.config import ModelConfig
from engine.errors import TensorError
from engine.gguf import RawTensor
from engine.quant import row_bytes

Shape = tuple[int, ...]


def tensor_shapes(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Every tensor that the architecture needs, with its row-major shape; not `output`.

    It yields them, because a hostile file may claim a billion layers.
    """
    h = config.embedding_length
    yield "token_embd.weight", (config.vocabulary_size, h)
    yield "output_norm.weight", (h,)
    block = {**_attention_shapes(config), **_feed_forward_shapes(config)}
    for layer in range(config.block_count):
        for name, shape in block.items():
            yield f"blk.{layer}.{name}", shape


def _attention_shapes(config: ModelConfig) -> dict[str, Shape]:
    h, d = config.embedding_length, config.key_length
    q, kv = config.head_count * d, config.head_count_kv * d
    shapes: dict[str, Shape] = {
        "attn_norm.weight": (h,),
        "attn_q.weight": (q, h),
        "attn_k.weight": (kv, h),
        "attn_v.weight": (kv, h),
        "attn_output.weight": (h, q),
        "ffn_norm.weight": (h,),
    }
    if config.has_qkv_bias:
        shapes |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
    if config.has_qk_norm:
        shapes |= {"attn_q_norm.weight": (d,), "attn_k_norm.weight": (d,)}
    return shapes


def _feed_forward_shapes(config: ModelConfig) -> dict[str, Shape]:
    h = config.embedding_length
    if not config.is_moe:
        f = config.feed_forward_length
        return {"ffn_gate.weight": (f, h), "ffn_up.weight": (f, h), "ffn_down.weight": (h, f)}
    e, f = config.expert_count, config.expert_feed_forward_length
    return {
        "ffn_gate_inp.weight": (e, h),
        "ffn_gate_exps.weight": (e, f, h),
        "ffn_up_exps.weight": (e, f, h),
        "ffn_down_exps.weight": (e, h, f),
    }


def check_tensors(config: ModelConfig, tensors: Mapping[str, RawTensor]) -> None:
    """Refuse a file whose tensors are not exactly those of its architecture."""
    expected = {}
    for name, shape in tensor_shapes(config):
        if name not in tensors:
            raise TensorError(f"{name}: found nothing in the file, expected shape {list(shape)}")
        expected[name] = shape
    if "output.weight" in tensors:  # absent means tied to token_embd
        expected["output.weight"] = expected["token_embd.weight"]
    for name, tensor in tensors.items():
        if name not in expected:
            raise TensorError(
                f"{name}: found in the file, expected no such tensor in {config.architecture}"
            )
        _check_tensor(name, tensor, expected[name])


def _check_tensor(name: str, tensor: RawTensor, shape: Shape) -> None:
    if tensor.shape != shape:
        raise TensorError(f"{name}: found shape {list(tensor.shape)}, expected {list(shape)}")
    size = prod(shape[:-1]) * row_bytes(tensor.type, shape[-1], name)
    if tensor.bytes != size:
        raise TensorError(f"{name}: found {tensor.bytes} bytes of data, expected {size}")
