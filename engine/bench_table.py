"""What a measurement looks like in a terminal of 80 columns.

Knows columns and words; knows nothing of how the numbers were made. GB are 10⁹ bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from engine.bench import FIRST_TOKEN
from engine.bench_report import Bandwidth, Compared, FirstTokens, Memory, Rate, Report, Traffic
from engine.columns import WIDTH, bytes_text
from engine.profile import Spent

GIGA = 1e9


def bench_text(report: Report) -> Iterator[str]:
    """What was measured so far, and on what."""
    yield f"{report.file}: {bytes_text(report.bytes)}, {report.architecture}"
    yield f"route: {report.route}"
    yield from wrap(", ".join(f"{key} {value}" for key, value in report.host.items()), WIDTH)
    yield _line("load", f"{report.start.load_seconds:.3f} s")
    yield _line(
        FIRST_TOKEN,
        f"{report.start.first_token_seconds:.3f} s",
        f"loading and a prompt of {report.start.prompt_tokens} tokens included",
    )
    yield from _rates(report.rates, report.traffic)
    if report.bandwidth is not None:
        yield _bandwidth(report.bandwidth)
    yield from _memory(report.memory)
    if report.compared is not None:
        yield from _compared(report.compared)
    if report.profile is not None:
        yield from profile_text(report.profile)
    if not report.complete:
        yield "interrupted: these are the runs that were finished"


def _line(what: str, figure: str, more: str = "") -> str:
    return f"{what:<19} {figure:>15}  {more}".rstrip()


def _rates(rates: Iterable[Rate], traffic: Iterable[Traffic]) -> Iterator[str]:
    """Each rate, and under a decode's what it takes of the bandwidth."""
    taken = {each.prompt_tokens: each for each in traffic}
    for rate in rates:
        yield _rate(rate)
        if rate.stage == "decode":
            yield _traffic(taken[rate.prompt_tokens])


def _rate(rate: Rate) -> str:
    spread = f"{rate.least:.2f} to {rate.most:.2f} in {len(rate.seconds)} runs"
    return _line(f"{rate.stage} {rate.prompt_tokens}", f"{rate.median:.2f} tok/s", spread)


def _traffic(taken: Traffic) -> str:
    share = "" if taken.share is None else f", {taken.share:.0%} of the read bandwidth"
    each = f"{taken.bytes_per_token / GIGA:.4g} GB per token{share}"
    return _line("", f"{taken.bytes_per_second / GIGA:.2f} GB/s", each)


def _bandwidth(read: Bandwidth) -> str:
    spread = f"{read.least / GIGA:.2f} to {read.most / GIGA:.2f} in {len(read.seconds)} readings"
    return _line("read bandwidth", f"{read.median / GIGA:.2f} GB/s", spread)


def _memory(found: Memory) -> Iterator[str]:
    figures = (
        ("peak memory", found.peak, "what is mapped included"),
        ("memory, decoding", found.over_file, "at most, over the mapped file"),
        ("before the model", found.before_model, "Python and its libraries"),
    )
    for what, figure, more in figures:
        if figure is not None:
            yield _line(what, bytes_text(figure), more)


def _compared(found: Compared) -> Iterator[str]:
    yield f"\n{found.peer}, the same file, prompts and threads"
    yield from map(_rate, found.rates)
    sides = (("ours", found.first_token), ("theirs", found.peer_first_token))
    for whose, first in sides:
        if first is not None:
            yield _first(whose, first)
    yield "\nratio of the medians"
    for each in found.ratios:
        what = "of their time" if each.stage == FIRST_TOKEN else "of their speed"
        yield _line(f"{each.stage} {each.prompt_tokens}", f"{each.ratio:.3f}", what)


def _first(whose: str, first: FirstTokens) -> str:
    spread = f"{min(first.seconds):.3f} to {max(first.seconds):.3f}, from a fresh process"
    return _line(f"{FIRST_TOKEN}, {whose}", f"{first.median:.3f} s", spread)


def profile_text(spent: Sequence[Spent]) -> Iterator[str]:
    """Where a decoded token's time goes."""
    total = sum(each.seconds for each in spent)
    yield f"\na decoded token: {1000 * total:.3f} ms"
    for each in spent:
        yield _line(each.stage, f"{1000 * each.seconds:.3f} ms", f"{each.seconds / total:.1%}")
