"""Inputs that the losses of distillation must refuse, and how they did."""

import math

import torch

from engine.distill import kd_logit_gradient, kd_loss, linear_kd_loss, sparse_kd_loss
from engine.errors import EngineError


def outcome_of(call) -> str:
    try:
        call()
    except EngineError as error:
        said = str(error)
        clear = "found" in said and "expected" in said and "\n" not in said
        return "EngineError" if clear else f"unclear: {said}"
    except Exception as error:
        return type(error).__name__
    return "accepted"


def wrong_calls() -> dict:
    """Every input of every function, wrong in one way."""
    s, t, y = torch.zeros(2, 3, 8), torch.ones(2, 3, 8), torch.zeros(2, 3).long()
    kept, ids = t[..., :4], torch.zeros(2, 3, 4).long()
    x, w, z, v = (torch.zeros(size) for size in ((2, 3, 5), (8, 5), (2, 3, 6), (9, 6)))
    mix = {"temperature": 2.0, "alpha": 0.5}
    wrong = {
        "temperature 0": (kd_loss, s, t, y, {"temperature": 0.0, "alpha": 0.5}),
        "temperature below 0": (kd_logit_gradient, s, t, y, {"temperature": -1.0, "alpha": 0.5}),
        "temperature NaN": (kd_loss, s, t, y, {"temperature": math.nan, "alpha": 0.5}),
        "temperature infinite": (kd_loss, s, t, y, {"temperature": math.inf, "alpha": 0.5}),
        "alpha above 1": (kd_loss, s, t, y, {"temperature": 2.0, "alpha": 1.01}),
        "alpha below 0": (sparse_kd_loss, s, kept, ids, y, {"temperature": 2.0, "alpha": -0.1}),
        "alpha NaN": (linear_kd_loss, x, w, z, v, y, {"temperature": 2.0, "alpha": math.nan}),
        "teacher's vocabulary": (kd_loss, s, torch.zeros(2, 3, 9), y),
        "teacher broadcast": (kd_loss, s, t[:1], y),
        "student without dimension": (kd_loss, s[0, 0, 0], t[0, 0, 0], y[0, 0]),
        "no vocabulary": (kd_loss, s[..., :0], t[..., :0], y),
        "integers for logits": (kd_loss, s.long(), t, y),
        "labels broadcast": (kd_loss, s, t, y[:, :1]),
        "labels of another rank": (kd_logit_gradient, s, t, y.flatten()),
        "floats for labels": (kd_loss, s, t, y.float()),
        "label beyond": (kd_loss, s, t, y + 8),
        "label beyond, in chunks": (linear_kd_loss, x, w, z, v, y + 8),
        "another device": (kd_loss, s, t.to("meta"), y),
        "ids of another shape": (sparse_kd_loss, s, kept, ids[..., :3], y),
        "id beyond": (sparse_kd_loss, s, kept, ids + 8, y),
        "id below 0": (sparse_kd_loss, s, kept, ids - 1, y),
        "nothing kept": (sparse_kd_loss, s, kept[..., :0], ids[..., :0], y),
        "weight of another width": (linear_kd_loss, x, w[:, :4], z, v, y),
        "weight of another type": (linear_kd_loss, x, w.double(), z, v, y),
        "teacher's tokens": (linear_kd_loss, x, w, z[:, :2], v, y),
        "teacher's width": (linear_kd_loss, x, w, z, v[:, :5], y),
        "smaller teacher": (linear_kd_loss, x, w, z, v[:7], y),
        "labels of other tokens": (linear_kd_loss, x, w, z, v, y[:1]),
        "chunk 0": (linear_kd_loss, x, w, z, v, y, {**mix, "chunk": 0}),
    }
    return {name: bound(*call, mix=mix) for name, call in wrong.items()}


def bound(function, *given, mix: dict):
    """A call without arguments; its keywords are `mix` unless the last of `given` are others."""
    *tensors, last = given
    keywords = last if isinstance(last, dict) else mix
    return lambda: function(*(tensors if last is keywords else given), **keywords)
