"""The forward pass: token ids to logits, for Qwen2, Qwen3 and Qwen3's mixtures of experts.

Knows layers and tensor names; knows nothing of text, sampling or how blocks decode. One model
definition with switches: `attend` reads them from the config, and `feed_forward` is the one place
where architectures part. The same pass serves inference, where weights stay encoded in the mapped
file and are decoded when used, and training, where they are float32 parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from engine import moe, rope
from engine.attention import attention, rms_norm, split_heads
from engine.cache import KVCache
from engine.checkpoint import open_checkpoint
from engine.config import ModelConfig
from engine.errors import EngineError, PromptError, naming
from engine.gguf import Checkpoint
from engine.layout import check_tensors
from engine.memory import release_memory
from engine.moe import See, swiglu, unseen
from engine.route import Angles, Heads, Layer, Resident, Route, Step
from engine.routes import choose
from engine.weights import Blocks, Floats, Weight, check_finite, linear

PASS = 256  # tokens of a prompt that go through a route at once, which bounds the memory they need
Ids = Sequence[int] | Tensor  # token ids [T], or [B, T] as a tensor
Probe = Callable[[int | None, str, Tensor], None]  # takes layer (None outside), stage, what it made


def load(path: str | Path, device: str = "cpu", route: Route | str | None = None) -> "Model":
    """Open the GGUF file or HF folder at `path` and check its tensors, names and shapes.

    `route` is one, or the name of one: "auto" takes the fastest that this machine can run. Without
    it the model takes the plain one, the reference. Raises `FormatError` for the file or its
    metadata, `TensorError` for a tensor, and `EngineError` for a device that is not there or a
    route that cannot run. No weight is decoded yet.
    """
    if isinstance(route, str):
        route = choose(route, device).route
    return Model.from_checkpoint(open_checkpoint(path), device, route)


@dataclass(frozen=True)
class Pass:
    """What one forward pass hands from layer to layer: angles [T, D/2], the cache, who looks on.

    Where there is a route there is a cache.
    """

    cos: Tensor
    sin: Tensor
    cache: KVCache | None = None
    probe: Probe | None = None
    route: Route | None = None

    def see(self, layer: int | None) -> See:
        """The `See` of one layer."""
        probe = self.probe
        return unseen if probe is None else lambda stage, made: probe(layer, stage, made)


class Model:
    """A model ready to run. `weights` are by the file's names; `config` is read at each use.

    `route` is how `forward` multiplies, None for the plain route. One that is resident keeps the
    weights on its device.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: dict[str, Weight],
        device: torch.device | str = "cpu",
        route: Route | None = None,
    ) -> None:
        self.config = config
        self.weights = route.place(weights) if isinstance(route, Resident) else weights
        self.device = torch.device(device)
        self.route = route
        self._layers: tuple[ModelConfig, list[Layer]] | None = None
        self._steps: WeakKeyDictionary[KVCache, Step] = WeakKeyDictionary()

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: str = "cpu", route: Route | None = None
    ) -> "Model":
        """From a file or folder that is open already."""
        with naming(checkpoint.path):
            config = ModelConfig.from_metadata(checkpoint.metadata)
            check_tensors(config, checkpoint.tensors)
        weights: dict[str, Weight] = {n: Blocks(n, *t) for n, t in checkpoint.tensors.items()}
        return cls(config, weights, _device(device), route)

    def to_float(self, *, trainable: bool = False) -> "Model":
        """The same model with every weight decoded once, as float32 tensors on its device.

        `trainable` ones require a gradient; they are `model.weights[name].tensor`, and a tied
        output shares `token_embd`'s.
        """
        decoded = {n: w.dequantise(self.device).clone() for n, w in self.weights.items()}
        floats: dict[str, Weight] = {
            name: Floats(name, tensor.requires_grad_(trainable)) for name, tensor in decoded.items()
        }
        return Model(self.config, floats, self.device)

    def weight(self, name: str, kind: str = "weight") -> Weight:
        """The tensor `name`.`kind`; one that the file lacks fails when used."""
        name = f"{name}.{kind}"
        return self.weights.get(name) or Blocks.absent(name)

    def new_cache(self, capacity: int | None = None) -> KVCache:
        """An empty cache for `capacity` positions, or for the whole context."""
        c = self.config
        size = c.context_length if capacity is None else capacity
        cache = KVCache(c.block_count, c.head_count_kv, size, c.key_length, self.device)
        if isinstance(self.route, Resident):
            self.route.reserve(cache)
        return cache

    def logits(self, ids: Ids) -> Tensor:
        """Float32 logits [T, V] at every position of `ids`, without a cache; [B, T, V] for [B, T].

        Gradients reach the weights that require them.
        """
        return self._run(ids, None, last_only=False)

    def hidden(self, ids: Ids) -> Tensor:
        """What `output` turns into logits: float32 [T, H], or [B, T, H], at every position.

        Gradients reach the weights that require them.
        """
        return self._run(ids, None, last_only=False, output=False)

    @torch.no_grad()
    def forward(
        self,
        ids: Sequence[int],
        cache: KVCache | None = None,
        *,
        last_only: bool = False,
        output: bool = True,
        probe: Probe | None = None,
    ) -> Tensor:
        """Float32 logits [T, V] of `ids` placed after what `cache` holds, which grows by T.

        With `last_only`, [1, V] for the last position alone; without `output`, what it turns into
        logits, [T, H] or [1, H]; `probe` sees what each stage made.
        Raises `PromptError` for ids that are none, outside the vocabulary or beyond the context,
        and where the cache is full; `TensorError` for a weight that is not finite, which a route
        looks for once its logits are not.
        """
        if self.route is not None and cache is None:
            cache = self.new_cache(len(ids))
        if isinstance(self.route, Resident) and cache is not None:
            if len(ids) == 1 and output and not probe:
                return self._step(ids[0], cache, self.route)
        elif self.route is not None and cache is not None and len(ids) > PASS and not probe:
            return self._in_passes(ids, cache, last_only=last_only, output=output)
        return self._run(
            ids, cache, last_only=last_only, output=output, probe=probe, route=self.route
        )

    def _in_passes(
        self, ids: Sequence[int], cache: KVCache, *, last_only: bool, output: bool
    ) -> Tensor:
        """`forward` through the route, `PASS` tokens at a time."""
        start, end = cache.length, cache.length + len(ids)
        check_ids(ids, start, self.config)
        cache.require_room(len(ids))
        cache.reserve(min(end + PASS, cache.capacity))  # for what follows the prompt too
        made = []
        try:
            for at in range(0, len(ids), PASS):
                wanted = output and (not last_only or at + PASS >= len(ids))
                part = ids[at : at + PASS]
                made.append(
                    self._run(part, cache, last_only=last_only, output=wanted, route=self.route)
                )
        except BaseException:
            cache.truncate(start)
            raise
        release_memory()
        return made[-1] if last_only else torch.cat(made)

    def _run(
        self,
        ids: Ids,
        cache: KVCache | None,
        *,
        last_only: bool,
        output: bool = True,
        probe: Probe | None = None,
        route: Route | None = None,
    ) -> Tensor:
        start = 0 if cache is None else cache.length
        ids = torch.as_tensor(ids)
        check_ids(ids, start, self.config)
        count = ids.shape[-1]
        positions = torch.arange(start, start + count, device=self.device)
        step = Pass(*rope.tables(self.config, positions), cache, probe, route)
        made = self._through(self._embed(ids, route), step, last_only=last_only, output=output)
        if route is not None and not made.sum().isfinite():
            for weight in self.weights.values():
                check_finite(weight)
        if cache is not None:
            cache.advance(count)
        return made

    def _through(self, x: Tensor, step: Pass, *, last_only: bool, output: bool = True) -> Tensor:
        """Embeddings [..., T, H] through all layers to logits [..., T, V], or [..., 1, V].

        Without `output`, to what it turns into logits, [..., T, H] or [..., 1, H].
        """
        x, made = run_layers(self, x, step)
        if last_only:
            x, made = x[..., -1:, :], None if made is None else made[..., -1:, :]
        _, x = add_norm(self, "output_norm", x, made, step)
        if not output:
            return x
        weight, route = self.output(), step.route
        logits = linear(x, weight) if route is None else route.linear(x, [weight])[0]
        step.see(None)("output", logits)
        return logits

    def _step(self, token: int, cache: KVCache, route: Resident) -> Tensor:
        """One token after what `cache` holds, by the step that belongs to it: logits [1, V]."""
        check_ids([token], cache.length, self.config)
        cache.require_room(1)
        step = self._steps.get(cache)
        if step is None:
            positions = torch.arange(cache.capacity, device=self.device)
            angles = rope.tables(self.config, positions)
            step = self._steps[cache] = route.step(self.weight("token_embd"), angles, cache)

        def through(x: Tensor, angles: Angles, recorded: Route) -> Tensor:
            return self._through(x, Pass(*angles, cache, None, recorded), last_only=True)

        logits = step(token, cache.length, through)
        cache.advance(1)
        return logits

    def output(self) -> Weight:
        """The matrix [V, H] to logits: the embedding's where the file has none of its own."""
        tied = "output.weight" not in self.weights
        return self.weight("token_embd" if tied else "output")

    def _embed(self, ids: Tensor, route: Route | None) -> Tensor:
        weight, flat = self.weight("token_embd"), ids.flatten().tolist()
        rows = weight.rows(flat, self.device) if route is None else route.rows(weight, flat)
        return rows.reshape(*ids.shape, -1)

    def layers(self) -> list[Layer]:
        """The weights of each layer, for a route; made anew where the config is another."""
        if self._layers is None or self._layers[0] is not self.config:
            made = [layer_weights(self, layer) for layer in range(self.config.block_count)]
            self._layers = (self.config, made)
        return self._layers[1]


def run_layers(model: Model, x: Tensor, step: Pass) -> tuple[Tensor, Tensor | None]:
    """All layers: [..., T, H] to the residual stream, and what is yet to be added to it."""
    if step.route is not None and step.cache is not None and step.probe is None:
        angles = (step.cos, step.sin)
        done = step.route.layers(model.layers(), x, angles, step.cache)
        if done is not None:
            return done
    made: Tensor | None = None
    for layer in range(model.config.block_count):
        x, made = run_layer(model, layer, x, made, step)
    return x, made


def run_layer(
    model: Model, layer: int, x: Tensor, made: Tensor | None, step: Pass
) -> tuple[Tensor, Tensor]:
    """One layer: [..., T, H] to [..., T, H].

    Takes and returns the residual stream and what the last block made, not yet added to it.
    """
    see = step.see(layer)
    x, normed = add_norm(model, f"blk.{layer}.attn_norm", x, made, step)
    see("attn_norm", normed)
    mixed = attend(model, layer, normed, step)
    see("attn_out", mixed)
    x, normed = add_norm(model, f"blk.{layer}.ffn_norm", x, mixed, step)
    see("ffn_norm", normed)
    made = feed_forward(model, layer, normed, see, step.route)
    see("ffn_out", made)
    return x, made


def add_norm(
    model: Model, name: str, x: Tensor, made: Tensor | None, step: Pass
) -> tuple[Tensor, Tensor]:
    """x with what a block made added to it, and its RMSNorm by the gain `name`."""
    gain, epsilon = model.weight(name), model.config.rms_epsilon
    if step.route is not None:
        return step.route.norm(x, made, gain, epsilon)
    x = x if made is None else x + made
    return x, rms_norm(x, gain.dequantise(x.device), epsilon)


def attend(model: Model, layer: int, x: Tensor, step: Pass) -> Tensor:
    """The attention block of one layer: [..., T, H] to [..., T, H]."""
    c, block = model.config, f"blk.{layer}"
    names = [f"{block}.attn_{part}" for part in "qkv"]
    output = model.weight(f"{block}.attn_output")
    if step.route is not None and step.cache is not None:
        projected = _project_together(model, names, x, step.route)
        if step.probe is not None:
            step.see(layer)("qkv", torch.cat(projected, dim=-1))
        angles = (step.cos, step.sin)
        mixed = step.route.attend(projected, heads(model, layer), angles, step.cache)
        return step.route.linear(mixed, [output])[0]
    projected = [project(model, name, x) for name in names]
    step.see(layer)("qkv", torch.cat(projected, dim=-1))
    q, k, v = (split_heads(each, c.key_length) for each in projected)  # [..., heads, T, D]
    if c.has_qk_norm:  # before RoPE
        q_gain, k_gain = (model.weight(f"{block}.attn_{n}_norm").dequantise(x.device) for n in "qk")
        q, k = rms_norm(q, q_gain, c.rms_epsilon), rms_norm(k, k_gain, c.rms_epsilon)
    q, k = rope.rotate(q, step.cos, step.sin), rope.rotate(k, step.cos, step.sin)
    if step.cache is not None:
        k, v = step.cache.append(layer, k, v)
    mixed = attention(q, k, v, c.window(layer)).transpose(-3, -2).flatten(-2)  # [..., T, heads * D]
    return linear(mixed, output)


def project(model: Model, name: str, x: Tensor) -> Tensor:
    """x [..., T, H] to queries, keys or values [..., T, heads * D]; Qwen2's have a bias."""
    bias = model.weight(name, "bias") if model.config.has_qkv_bias else None
    return linear(x, model.weight(name), bias)


def _project_together(model: Model, names: Sequence[str], x: Tensor, route: Route) -> list[Tensor]:
    made = route.linear(x, [model.weight(name) for name in names])
    if not model.config.has_qkv_bias:
        return made
    biases = (model.weight(name, "bias").dequantise(x.device) for name in names)
    return [y + bias for y, bias in zip(made, biases, strict=True)]


def heads(model: Model, layer: int) -> Heads:
    """How a route lays out the attention of `layer`."""
    c, block = model.config, f"blk.{layer}"
    q_gain, k_gain = (
        model.weight(f"{block}.attn_{n}_norm") if c.has_qk_norm else None for n in "qk"
    )
    sizes = (c.head_count, c.head_count_kv, c.key_length, c.window(layer))
    return Heads(layer, *sizes, q_gain, k_gain, c.rms_epsilon)


def layer_weights(model: Model, layer: int) -> Layer:
    """What a route needs of `layer`."""
    c, block = model.config, f"blk.{layer}"
    q, k, v = (f"{block}.attn_{part}" for part in "qkv")
    parts = ("gate_exps", "up_exps", "down_exps") if c.is_moe else ("gate", "up", "down")
    gate, up, down = (model.weight(f"{block}.ffn_{part}") for part in parts)
    return Layer(
        attn_norm=model.weight(f"{block}.attn_norm"),
        projections=(model.weight(q), model.weight(k), model.weight(v)),
        biases=(model.weight(q, "bias"), model.weight(k, "bias"), model.weight(v, "bias"))
        if c.has_qkv_bias
        else None,
        heads=heads(model, layer),
        attn_output=model.weight(f"{block}.attn_output"),
        ffn_norm=model.weight(f"{block}.ffn_norm"),
        router=model.weight(f"{block}.ffn_gate_inp") if c.is_moe else None,
        gate=gate,
        up=up,
        down=down,
        used=c.expert_used_count if c.is_moe else 1,
    )


def feed_forward(
    model: Model, layer: int, x: Tensor, see: See = unseen, route: Route | None = None
) -> Tensor:
    """The feed-forward block of one layer, [..., T, H] to the same: the one dispatch.

    A route shows nothing of what happens inside.
    """
    block = f"blk.{layer}"
    if not model.config.is_moe:
        gate, up, down = (model.weight(f"{block}.ffn_{n}") for n in ("gate", "up", "down"))
        if route is not None:
            return route.swiglu(x, gate, up, down)
        return dense_feed_forward(x, gate, up, down, see)
    parts = ("gate_inp", "gate_exps", "up_exps", "down_exps")
    router, gate, up, down = (model.weight(f"{block}.ffn_{n}") for n in parts)
    used = model.config.expert_used_count
    if route is not None:
        return route.experts(x, router, gate, up, down, used)
    tokens = x.reshape(-1, x.shape[-1])  # a router knows no batch
    return moe.moe_feed_forward(tokens, router, gate, up, down, used, see).reshape(x.shape)


def dense_feed_forward(
    x: Tensor, gate: Weight, up: Weight, down: Weight, see: See = unseen
) -> Tensor:
    """SwiGLU: [..., H] to [..., H]."""
    return swiglu(x, gate, up, down, see)


def check_ids(ids: Ids, start: int, config: ModelConfig) -> None:
    """Refuse ids that are none, outside the vocabulary, or beyond the context."""
    ids = torch.as_tensor(ids)
    if not ids.numel():
        raise PromptError("prompt: found no token ids, expected at least one")
    end = start + ids.shape[-1]
    if end > config.context_length:
        raise PromptError(
            f"prompt: found {end} positions, expected at most "
            f"the context length of {config.context_length}"
        )
    for place in ((ids < 0) | (ids >= config.vocabulary_size)).nonzero()[:1]:
        raise PromptError(
            f"prompt: found token id {ids[tuple(place)]} at {place[-1]}, "
            f"expected 0 to {config.vocabulary_size - 1}"
        )


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that CUDA is compiled in
        raise EngineError(f"device {name!r}: {str(error).splitlines()[0]}") from error
