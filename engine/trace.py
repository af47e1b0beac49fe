"""Statistics of what each stage of a forward pass made, of the last token or of all, as JSON too.

Knows the stages that `Model.forward` shows to its probe; knows nothing of text, of what is near
enough, or of drawing. A trace says which tokens it counts, because a deviation over seven tokens
and one over a single token are different quantities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from engine.errors import EngineError, FormatError
from engine.model import Model

EXPERTS = "router_experts"  # the one stage that holds indices and no numbers
STAGES = (
    *("attn_norm", "qkv", "attn_out", "ffn_norm", "router_weights", EXPERTS),
    *("ffn_gate", "ffn_up", "ffn_silu", "ffn_swiglu", "ffn_out", "output"),
)

Tokens = Literal["last", "all"]
Place = tuple[int | None, str]  # layer (None after the last), stage


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )


class Stage(_Strict):
    """What one stage of one layer made: shape [T, n], or [T, K, n] inside experts.

    `count` is of all numbers; mean, std, min and max are of the finite ones, in float64, and None
    where there is none. `std` is the population's: the root of the mean square from the mean.
    """

    layer: int | None
    stage: str
    shape: tuple[int, ...]
    count: int
    nonfinite: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None

    @classmethod
    def of(cls, layer: int | None, stage: str, made: Tensor) -> "Stage":
        """The statistics of the tensor that a stage made."""
        finite = made[made.isfinite()].double()
        some = finite.numel() > 0
        return cls(
            layer=layer,
            stage=stage,
            shape=tuple(made.shape),
            count=made.numel(),
            nonfinite=made.numel() - finite.numel(),
            mean=finite.mean().item() if some else None,
            std=finite.std(correction=0).item() if some else None,
            min=finite.min().item() if some else None,
            max=finite.max().item() if some else None,
        )

    @property
    def place(self) -> Place:
        """Where it stands in the model."""
        return self.layer, self.stage


class Trace(_Strict):
    """Every stage of one forward pass, in order.

    `experts` [layers, T, K] is the router's choice, the largest weight first; empty in a dense
    model. T is 1 where `tokens` is "last".
    """

    schema_name: Literal["engine/trace/v1"] = Field(default="engine/trace/v1", alias="schema")
    file: str
    route: str
    architecture: str
    tokens: Tokens
    prompt_ids: tuple[int, ...]
    stages: tuple[Stage, ...]
    experts: tuple[tuple[tuple[int, ...], ...], ...] = ()

    @property
    def label(self) -> str:
        """How the command line names it: file@route."""
        return f"{self.file}@{self.route}"

    @property
    def layers(self) -> int:
        """How many layers it went through."""
        return len({stage.layer for stage in self.stages} - {None})

    def to_json(self) -> str:
        """Strict JSON: no NaN, no infinity."""
        return self.model_dump_json(by_alias=True)

    def require_whole(self) -> None:
        """Refuse a trace whose stages do not count the tokens that it says it counts."""
        count = 1 if self.tokens == "last" else len(self.prompt_ids)
        for stage in self.stages:
            if stage.shape[:1] != (count,) or stage.count != prod(stage.shape):
                raise EngineError(
                    f"{self.label}: {named(stage.place)}: found {stage.count} numbers of shape "
                    f"{list(stage.shape)}, expected {count} first, as the trace is of {self.tokens}"
                )
        routed = [stage.shape for stage in self.stages if stage.stage == "router_weights"]
        chosen = [(len(layer), *{len(token) for token in layer}) for layer in self.experts]
        if routed != chosen:
            raise EngineError(
                f"{self.label}: found experts of shapes {chosen}, expected {routed} by the weights"
            )


@dataclass(frozen=True)
class Recording:
    """A trace with the tensors that it was made from, or without: a file does not keep them."""

    trace: Trace
    tensors: Mapping[Place, Tensor] = field(default_factory=dict)


def named(place: Place) -> str:
    """A place in words."""
    layer, stage = place
    return stage if layer is None else f"layer {layer}, {stage}"


def record(
    model: Model,
    ids: Sequence[int],
    *,
    tokens: Tokens = "last",
    file: str = "",
    route: str = "plain",
    keep: bool = False,
) -> Recording:
    """Trace one forward pass over `ids`; with `keep`, the traced tensors stay in memory.

    Raises `PromptError` for ids that the model cannot take.
    """
    recorder = _Recorder(tokens, keep)
    model.forward(ids, last_only=tokens == "last", probe=recorder)
    trace = Trace(
        file=file,
        route=route,
        architecture=model.config.architecture,
        tokens=tokens,
        prompt_ids=tuple(ids),
        stages=tuple(recorder.stages),
        experts=tuple(recorder.experts),
    )
    return Recording(trace, recorder.tensors)


class _Recorder:
    """The probe: takes each stage's rows of the tokens that are traced."""

    def __init__(self, tokens: Tokens, keep: bool) -> None:
        self.stages: list[Stage] = []
        self.experts: list[tuple[tuple[int, ...], ...]] = []
        self.tensors: dict[Place, Tensor] = {}
        self._tokens, self._keep = tokens, keep

    def __call__(self, layer: int | None, stage: str, made: Tensor) -> None:
        made = traced(made, self._tokens).cpu()  # not every device has float64
        if stage == EXPERTS:
            self.experts.append(tuple(map(tuple, made.tolist())))
        else:
            self.stages.append(Stage.of(layer, stage, made))
        if self._keep:
            self.tensors[layer, stage] = made.clone()  # a view would hold every token's rows


def traced(made: Tensor, tokens: Tokens) -> Tensor:
    """The rows [T, ...] of `made` that are counted."""
    return made[-1:] if tokens == "last" else made


def read_trace(path: Path) -> Trace:
    """The trace in the JSON file at `path`; `FormatError` says what is wrong with it."""
    try:
        return Trace.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path}: found {error.strerror}, expected a trace") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise FormatError(f"{path}: {where}: {first['msg']}, expected a trace") from error
