"""Faults in what all architectures share: projections, attention, RoPE's scaling, HF's names."""

import torch

from engine.config import RopeScaling


def qkv_bias_missing(plant):
    """Queries, keys and values are projected without their bias."""
    from engine.weights import linear

    def fault(project):
        return lambda model, name, x: linear(x, model.weight(name))

    plant("engine.model.project", fault)


def rope_scaling_ignored(plant):
    """Positions are rotated as if the context had never been extended."""

    def fault(frequencies):
        return lambda base, size, scaling: frequencies(base, size, RopeScaling())

    plant("engine.rope.frequencies", fault)


def yarn_attention_factor_missing(plant):
    """YaRN's frequencies are right, but attention's logits are not scaled."""
    plant("engine.config.yarn_attention_factor", lambda original: lambda factor: 1.0)


def yarn_interpolates_every_pair(plant):
    """YaRN is taken for linear scaling: the pairs that turn often are interpolated too."""

    def fault(frequencies):
        def faulty(base, size, scaling):
            return frequencies(base, size, RopeScaling("linear", scaling.factor))

        return faulty

    plant("engine.rope.frequencies", fault)


def sliding_window_ignored(plant):
    """Every layer sees all positions."""
    plant("engine.attention.attention", lambda attention: lambda q, k, v, _=0: attention(q, k, v))


def sliding_window_one_too_long(plant):
    """A window of n sees n positions before the query's own."""

    def fault(attention):
        return lambda q, k, v, window=0: attention(q, k, v, window + 1 if window else 0)

    plant("engine.attention.attention", fault)


def key_heads_interleaved(plant):
    """Query head i uses key head i mod kv heads, and not i // group."""

    def fault(attention):
        def faulty(q, k, v, window=0):
            group = q.shape[-3] // k.shape[-3]
            return attention(q, torch.cat([k] * group, -3), torch.cat([v] * group, -3), window)

        return faulty

    plant("engine.attention.attention", fault)


def attention_scaled_by_twice_the_head(plant):
    """Scores are divided by sqrt(2 D), as by a head size that was assumed."""

    def fault(attention):
        return lambda q, k, v, window=0: attention(q / 2**0.5, k, v, window)

    plant("engine.attention.attention", fault)


def norm_without_gain(plant):
    """RMSNorm does not multiply by its gain."""

    def fault(rms_norm):
        return lambda x, gain, epsilon: rms_norm(x, torch.ones_like(gain), epsilon)

    plant("engine.attention.rms_norm", fault)


def position_off_by_one_after_the_prompt(plant):
    """A token that is decoded alone is rotated as if it stood one place further."""

    def fault(tables):
        return lambda config, positions: tables(config, positions + (len(positions) == 1))

    plant("engine.rope.tables", fault)


def greedy_takes_the_second_best(plant):
    """Greedy decoding draws the runner-up wherever the two best are close."""

    def fault(sample):
        def faulty(logits, *rest):
            best = logits.topk(2)
            close = best.values[0] - best.values[1] < 0.2
            return int(best.indices[1]) if close else sample(logits, *rest)

        return faulty

    plant("engine.generate.sample", fault)


def folder_swaps_the_norms(plant):
    """A HF folder's post-attention norm is taken for the input norm, and the other way round."""

    def fault(named):
        other = {"attn_norm": "ffn_norm", "ffn_norm": "attn_norm"}

        def faulty(name):
            block, _, part = named(name).removesuffix(".weight").rpartition(".")
            return f"{block}.{other[part]}.weight" if part in other else named(name)

        return faulty

    plant("engine.safetensors._gguf_name", fault)


def folder_cut_to_bfloat16(plant):
    """A HF folder's numbers keep only eight bits of mantissa."""

    def fault(raw):
        return lambda name, tensor: raw(name, tensor.to(torch.bfloat16))

    plant("engine.safetensors._raw", fault)


def router_gets_no_gradient(plant):
    """The router's weights are constants in training, so that it never learns."""

    def fault(route):
        def faulty(logits, k):
            weights, experts = route(logits, k)
            return weights.detach(), experts

        return faulty

    plant("engine.moe.route", fault)


def norms_get_no_gradient(plant):
    """The gains of the norms are constants in training."""

    def fault(rms_norm):
        return lambda x, gain, epsilon: rms_norm(x, gain.detach(), epsilon)

    plant("engine.attention.rms_norm", fault)


def only_the_last_of_a_batch_is_trained(plant):
    """Gradients flow from the last element of the batch alone."""

    def fault(embed):
        def faulty(self, ids, *route):
            x = embed(self, ids, *route)
            return torch.cat([x[:-1].detach(), x[-1:]]) if x.dim() == 3 else x

        return faulty

    plant("engine.model.Model._embed", fault)


def decoded_weights_are_kept(plant):
    """What was decoded once is kept for the next time."""
    kept = {}

    def fault(pieces):
        def faulty(self, device="cpu"):
            if self.name not in kept:
                kept[self.name] = list(pieces(self, device))
            return iter(kept[self.name])

        return faulty

    plant("engine.weights.Blocks.pieces", fault)
