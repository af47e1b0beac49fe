"""Which route a model takes, and why: compiled kernels, Triton's, torch alone, or the plain one.

Knows what each route needs and which is preferred; knows nothing of how any of them multiplies.
"""

from dataclasses import dataclass

import torch

from engine.errors import EngineError
from engine.route import Route

ROUTES = ("auto", "plain", "torch", "portable", "avx2", "avx512")


@dataclass(frozen=True)
class Choice:
    """The route, None for the plain one, and a line that says what runs and why."""

    route: Route | None
    reason: str


def choose(name: str = "auto", device: torch.device | str = "cpu") -> Choice:
    """The route `name` on `device`; `auto` takes the fastest that this machine can run.

    Raises `EngineError` for a name that is none, and where the one that was asked for cannot run.
    """
    if name not in ROUTES:
        raise EngineError(f"route: found {name!r}, expected one of {', '.join(ROUTES)}")
    if name == "plain":
        return Choice(None, "plain: decode, then multiply in float32, as was asked for")
    if torch.device(device).type == "cuda":
        return _on_cuda(name, torch.device(device))
    if name == "torch":
        return _named(_torch(), "as was asked for")
    if name != "auto":
        return _named(_native(name), "as was asked for")
    try:
        return _named(_native(None), "the fastest path that this processor has")
    except EngineError as error:
        return _named(_torch(), f"because {error}")


def _named(route: Route, why: str) -> Choice:
    return Choice(route, f"{route.name}: {why}")


def _native(path: str | None) -> Route:
    from engine.native import Native

    return Native(path)


def _torch() -> Route:
    from engine.int4 import Int4

    return Int4()


def _on_cuda(name: str, device: torch.device) -> Choice:
    if name != "auto":
        raise EngineError(f"route: found {name!r} on {device}, expected auto or plain there")
    try:
        from engine.gpu import Gpu
    except ModuleNotFoundError as error:
        raise EngineError(
            f"route: found no module {error.name!r} for {device}, expected it: pip install triton, "
            "or --route plain"
        ) from error
    return _named(Gpu(device), "Triton kernels on the quantised blocks")
