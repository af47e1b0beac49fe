"""The command `trace`: one model's stages, or two sides lined up.

Knows options and exit codes; everything else is done by the modules that it calls.
Exit codes: 0 done or inside the band, 1 outside the band, 2 bad input.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from engine import plot
from engine.cli_options import Device, JsonFile, check_json, put, to_json
from engine.compare import Band, Interval, compare
from engine.errors import EngineError
from engine.sides import Prompt, Side, recordings
from engine.tables import comparison_table, trace_table
from engine.trace import Tokens

EPILOG = """Examples:

python -m engine trace tiny.gguf --prompt Hello --plot trace.png

python -m engine trace --compare tiny.gguf tiny.gguf@float --prompt Hello

python -m engine trace tiny.gguf --prompt Hello --json before.json

python -m engine trace --compare before.json tiny.gguf --band ffn_up=0.9:1.1

Exit codes: 0 inside the band, 1 outside, 2 bad input."""


def trace(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="A GGUF file, a HF folder or a trace's .json; MODEL@float decodes it up front.",
        ),
    ],
    prompt: Annotated[str | None, typer.Option(help="What to say to the model.")] = None,
    ids: Annotated[str | None, typer.Option(help="The prompt as token ids: 1,2,3.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw/--chat", help="Continue the text, or answer it as a chat.")
    ] = False,
    tokens: Annotated[
        str | None, typer.Option(metavar="last|all", help="Which tokens count.  [default: last]")
    ] = None,
    comparing: Annotated[bool, typer.Option("--compare", help="Line two MODELs up.")] = False,
    band: Annotated[
        list[str] | None,
        typer.Option(metavar="[STAGE=]LOW:HIGH", help="Bounds of std B / std A; may be repeated."),
    ] = None,
    cosine: Annotated[float, typer.Option(help="The least cosine of a token.")] = 0.99,
    experts: Annotated[float, typer.Option(help="The least share of experts in common.")] = 1.0,
    json_to: JsonFile = None,
    plot_to: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw it, layer by layer.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Show what each stage of each layer makes of a prompt; compare two sides with --compare.

    It takes the plain route, the reference, whatever ENGINE_ROUTE says.
    """
    check_json(json_to)
    if plot_to is not None:
        plot.require_matplotlib()
    given = Prompt(prompt, _ids(ids), raw, _tokens(tokens))
    sides = [Side.named(name) for name in models]
    _require_sides(sides, comparing)
    made = recordings(sides, given, device)
    if not comparing:
        only = made[0].trace
        put(json_to, only.to_json(), trace_table(only))
        if plot_to is not None:
            plot.save(plot.draw_trace(only), plot_to)
        return
    found = compare(made[0], made[1], _band(band or [], cosine, experts))
    put(json_to, to_json(found.to_dict()), comparison_table(found))
    if plot_to is not None:
        plot.save(plot.draw_comparison(found), plot_to)
    raise typer.Exit(0 if found.first is None else 1)


def _require_sides(sides: Sequence[Side], comparing: bool) -> None:
    expected = 2 if comparing else 1
    if len(sides) != expected:
        more = "" if comparing else "; --compare takes two"
        raise EngineError(f"models: found {len(sides)}, expected {expected}{more}")
    if comparing and sides[0] == sides[1]:
        raise EngineError(
            f"models: found {sides[0].path}@{sides[0].route} twice, expected two different sides: "
            "this comparison could not fail"
        )


def _ids(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError as error:
        raise EngineError(f"--ids: found {text!r:.60}, expected numbers such as 1,2,3") from error


def _tokens(text: str | None) -> Tokens | None:
    match text:
        case "last" | "all" | None:
            return text
    raise EngineError(f"--tokens: found {text!r:.60}, expected last or all")


def _band(texts: Iterable[str], cosine: float, experts: float) -> Band:
    band = Band(cosine=cosine, experts=experts)
    ratio, stages = band.ratio, dict(band.stages)
    for text in texts:
        stage, _, bounds = text.rpartition("=")
        if stage:
            stages[stage] = _interval(text, bounds)
        else:
            ratio = _interval(text, bounds)
    return Band(ratio, stages, cosine, experts)


def _interval(text: str, bounds: str) -> Interval:
    low, _, high = bounds.partition(":")
    try:
        found = float(low), float(high)
    except ValueError as error:
        raise EngineError(f"--band: found {text!r:.60}, expected [STAGE=]LOW:HIGH") from error
    if not found[0] <= found[1]:
        raise EngineError(f"--band: found {text!r:.60}, expected LOW at most HIGH")
    return found
