"""What traces, comparisons and inspections look like in a terminal of 80 columns.

Knows columns and words; knows nothing of how the numbers were made. No colour, so that it reads
the same in a log.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite
from textwrap import shorten, wrap

from engine.columns import WIDTH, bytes_text
from engine.compare import Band, Comparison, Line
from engine.inspection import Fold, Inspection, TokenizerSummary, TypeTotal
from engine.trace import EXPERTS, Stage, Trace, named


def trace_table(trace: Trace) -> Iterator[str]:
    """A line for each stage of each layer, and one for the experts that were chosen."""
    yield f"{trace.label}: {trace.architecture}, {_counted(trace)}"
    yield f"prompt ids: {_some(trace.prompt_ids, 60)}"
    yield "layer stage             count       mean        std        min        max nonfin"
    choices = iter(trace.experts)
    for stage in trace.stages:
        numbers = (stage.mean, stage.std, stage.min, stage.max)
        yield (
            f"{_place(stage)} {stage.count:>8}"
            f"{''.join(f'{_number(x):>11}' for x in numbers)} {stage.nonfinite:>6}"
        )
        if stage.stage == "router_weights":
            yield f"{stage.layer:>5} {EXPERTS:<14} {_experts(next(choices))}"


def _counted(trace: Trace) -> str:
    many = len(trace.prompt_ids)
    which = f"the last of {many} tokens" if trace.tokens == "last" else f"all {many} tokens"
    return f"{trace.layers} layers; {which}"


def _place(stage: Stage | Line) -> str:
    layer = "-" if stage.layer is None else stage.layer
    return f"{layer:>5} {stage.stage:<14}"


def _number(x: float | None, form: str = ".4g") -> str:
    if x is None or not isfinite(x):
        return "-" if x is None else str(x)
    return format(x, form)


def _experts(choice: Sequence[Sequence[int]]) -> str:
    """The last token's experts, best first; of more tokens, the ones that most of them chose."""
    if len(choice) == 1:
        return _some(choice[0], 58)
    counts = Counter(expert for token in choice for expert in token).most_common()
    return _some([f"{expert} (by {count})" for expert, count in counts], 58)


def _some(items: Iterable[object], width: int) -> str:
    return shorten(", ".join(map(str, items)), width, placeholder=" …")


def comparison_table(comparison: Comparison) -> Iterator[str]:
    """A line for each stage of each layer, and what leaves the band first."""
    yield f"A: {comparison.a.label}"
    yield f"B: {comparison.b.label}"
    yield f"{comparison.a.architecture}, {_counted(comparison.a)}; ratio is std B / std A"
    yield "layer stage               std A      std B      ratio      cosine"
    for line in comparison.lines:
        yield _compared(line)
    first = comparison.first
    outside = sum(bool(line.fault) for line in comparison.lines)
    band = _band(comparison.band)
    if first is None:
        yield from wrap(f"inside the band: {band}", WIDTH)
        return
    yield from wrap(f"{outside} of {len(comparison.lines)} lines outside the band: {band}", WIDTH)
    yield from wrap(f"first outside: {named(first.place)}: {first.fault}", WIDTH)


def _compared(line: Line) -> str:
    mark = "  outside" if line.fault else ""
    if line.experts is not None:
        return f"{_place(line)} {f'{line.experts:.0%} in common':>33}{mark:>21}".rstrip()
    numbers = [_number(line.std_a), _number(line.std_b), _number(line.ratio)]
    columns = "".join(f"{number:>11}" for number in numbers)
    return f"{_place(line)} {columns} {_number(line.cosine, '.8f'):>11}{mark}"


def _band(band: Band) -> str:
    bounds = {name: each for name, each in band.stages.items() if each[1] < inf}
    own = "".join(f", {name} {low:g} to {high:g}" for name, (low, high) in bounds.items())
    return (
        f"ratio {band.ratio[0]:g} to {band.ratio[1]:g}{own}; cosine at least {band.cosine:g}; "
        f"experts in common at least {band.experts:.0%}"
    )


def inspection_text(found: Inspection, *, every_tensor: bool = False) -> Iterator[str]:
    """The model on a page; a file's own text cannot move the cursor or colour the terminal."""
    yield f"{found.path}: {found.architecture or 'no architecture'}, {bytes_text(found.bytes)}"
    active = "" if found.active in (None, found.parameters) else f", {found.active:,} per token"
    yield f"parameters: {found.parameters:,}{active}"
    yield from _section("hyperparameters", (_entry(*item) for item in found.metadata.items()))
    yield from _section("types", map(_type_total, found.types))
    tensors = _every(found) if every_tensor else map(_fold, found.folds)
    yield from _section("tensors", tensors)
    yield from _section("tokenizer", _tokenizer(found.tokenizer))
    yield from _section("chat template", _template(found.template))
    yield from _section("warnings", found.warnings, indent=4)


def _section(title: str, lines: Iterable[str], indent: int = 0) -> Iterator[str]:
    """Nothing where there is nothing to say."""
    for place, line in enumerate(lines):
        if place == 0:
            yield f"\n{title}"
        rows = wrap(
            _printable(line),
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  " + " " * indent,
            drop_whitespace=False,  # of a template's own indentation
        )
        yield from (row.rstrip() for row in rows)


def _entry(key: str, value: object) -> str:
    if isinstance(value, list):
        shown = f"{len(value)} values" if len(value) > 8 else ", ".join(map(str, value))
    else:
        shown = str(value)
    return f"{key:<44} {shorten(shown, 32, placeholder=' …')}"


def _type_total(total: TypeTotal) -> str:
    size = bytes_text(total.bytes)
    return f"{total.type:<8} {total.tensors:>5} tensors {total.parameters:>17,} numbers {size:>10}"


def _fold(fold: Fold) -> str:
    return f"{fold.folded:<42} {fold.type:<6} {list(fold.shape)!s:<18} {bytes_text(fold.bytes):>8}"


def _every(found: Inspection) -> Iterator[str]:
    for name, tensor in found.tensors.items():
        shape = str(list(tensor.shape))
        yield f"{name:<42} {tensor.type:<6} {shape:<18} {bytes_text(tensor.bytes):>8}"


def _tokenizer(found: TokenizerSummary | None) -> Iterator[str]:
    if found is None:
        yield "none"
        return
    yield f"{found.model}, pre {found.pre}: {found.tokens:,} tokens, {found.merges:,} merges"
    for role, index, text in found.named:
        yield f"{role:<22} {index:>7}  {text}"
    yield "ends a generation: " + ", ".join(f"{end.id} {end.text}" for end in found.ends)


def _template(text: str | None) -> Iterator[str]:
    if text is None:
        yield "none"
        return
    lines = text.splitlines()
    yield f"{len(text)} characters, {len(lines)} lines; it begins:"
    yield from (shorten(line, 76, placeholder=" …") for line in lines[:4])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
