"""Faults in one of two routes that should give one answer."""

import torch

from engine.weights import Blocks, Floats


def swiglu_clamped_in_blocks(plant):
    """The route that decodes blocks clamps what SwiGLU multiplied, as an 8-bit kernel might."""

    def fault(linear):
        def faulty(x, weight, bias=None):
            down = "ffn_down" in weight.name and isinstance(weight, Blocks)
            return linear(x.clamp_(-0.25, 0.25) if down else x, weight, bias)

        return faulty

    plant("engine.weights.linear", fault)


def _gate_of_layer_1(plant, change):
    """Change what the decoded gate of layer 1 makes, on the route of blocks alone."""

    def fault(linear):
        def faulty(x, weight, bias=None):
            y = linear(x, weight, bias)
            gate = weight.name.startswith(("blk.1.ffn_gate.", "blk.1.ffn_gate_exps."))
            return change(y) if gate and isinstance(weight, Blocks) else y

        return faulty

    plant("engine.weights.linear", fault)


def gate_of_one_layer_in_float8(plant):
    """One layer's gate is computed in 8-bit floats; its deviation stays as it was."""
    _gate_of_layer_1(plant, lambda y: y.to(torch.float8_e4m3fn).float())


def gate_of_one_layer_misses_its_scale(plant):
    """One layer's gate is half as large as it should be; its direction stays as it was."""
    _gate_of_layer_1(plant, lambda y: y / 2)


def folder_with_default_rope_base(plant):
    """A folder's RoPE base is not read: the usual 10,000 takes its place."""

    def fault(rope):
        return lambda config: rope(config) | {"rope.freq_base": 1e4}

    plant("engine.hf_config._rope", fault)


def all_tokens_on_one_side(plant):
    """One route traces all tokens where the last was asked for, and says it was the last."""

    def fault(record):
        def faulty(model, ids, *, route="plain", tokens="last", **options):
            wrong = "all" if route == "float" else tokens
            made = record(model, ids, route=route, tokens=wrong, **options)
            trace = made.trace.model_copy(update={"tokens": tokens})
            return type(made)(trace, made.tensors)

        return faulty

    plant("engine.trace.record", fault)


def unlike_traces_compared(plant):
    """Two traces are compared whatever they count."""
    plant("engine.compare.require_alike", lambda check: lambda a, b: None)


def qkv_bias_of_the_query_only(plant):
    """Keys and values do without their bias."""

    def fault(project):
        def faulty(model, name, x):
            if name.endswith("attn_q"):
                return project(model, name, x)
            bare = type(model)(model.config, {**model.weights}, model.device)
            bare.weights[f"{name}.bias"] = Floats("none", torch.zeros(1))
            return project(bare, name, x)

        return faulty

    plant("engine.model.project", fault)


def key_projection_reused_for_the_value(plant):
    """A fused matrix is cut in the wrong place: the value's rows are the key's."""

    def fault(project):
        return lambda model, name, x: project(model, name.replace("attn_v", "attn_k"), x)

    plant("engine.model.project", fault)


def float32_blocks_through_bfloat16(plant):
    """Float32 tensors of the file are rounded to bfloat16 when they are decoded."""

    def fault(dequantise):
        def faulty(raw, kind, *rest):
            x = dequantise(raw, kind, *rest)
            return x.bfloat16().float() if kind == "F32" else x

        return faulty

    plant("engine.quant.dequantise", fault)


def decoded_up_front_in_half(plant):
    """Weights that are decoded up front are kept as float16."""

    def fault(to_float):
        def faulty(self, **options):
            model = to_float(self, **options)
            for name, weight in model.weights.items():
                model.weights[name] = Floats(name, weight.tensor.half().float())
            return model

        return faulty

    plant("engine.model.Model.to_float", fault)
