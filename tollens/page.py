"""The review as one HTML file that needs no network and no script, of at most 2 MB.

The template escapes everything that it is given, and its content security policy admits no script
at all. Where there is too much, attachments go first, then plots, then the prose of what holds,
then the best contracts; the page says what was left out.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tollens import scale as drawn
from tollens.attachments import Embedded, Kept, embed, kept, left_out
from tollens.bounds import show
from tollens.errors import ProjectError
from tollens.evidence import MeasureResult, Run
from tollens.kill_matrix import matrix
from tollens.project import Project
from tollens.review import UNPROVEN, WORST, ContractView, FalsifierView, Review
from tollens.since import Section, Since, grouped
from tollens.verdicts import Discharge, Kill, Status, Verdict

LIMIT = 2_000_000
LOWERED = "The bar is lower"
CLASSES: dict[str, str] = {
    Discharge.DISCHARGED: "ok",
    Discharge.PARTIAL_ALGORITHM_LEVEL: "part",
    Discharge.BLOCKER_FIXTURE_ABSENT: "block",
    Discharge.OPEN: "open",
    Verdict.CORROBORATED: "ok",
    Verdict.BLOCKED: "block",
    Verdict.NOT_RUN: "open",
    Verdict.INCONCLUSIVE: "part",
    Status.PROPOSED: "open",
    Kill.KILLED: "ok",
    UNPROVEN: "block",
    **dict.fromkeys((Verdict.FALSIFIED, Verdict.ERROR, Verdict.VACUOUS, Kill.SURVIVED), "bad"),
    **dict.fromkeys((Kill.ERROR, "broken"), "bad"),
}


@dataclass(frozen=True)
class Detail:
    """How much is told, and the words for what is not.

    Beyond the `whole` worst, a falsifier is one line; where it is discharged, its prose may go.
    Of the contracts, only the worst may be shown.
    """

    omitted: tuple[str, ...] = ()
    plots: bool = True
    prose: bool = True
    matrices: bool = True
    whole: int | None = None
    longest: int = 4000
    contracts: int | None = None


PLOTS = "plots of earlier runs"
PROSE = "predictions and advice of what is discharged"
MATRICES = "kill matrices without survivors"
WHOLE = 200
LINES = f"all but one line of each falsifier after the {WHOLE} worst"
DETAILS = (
    Detail(),
    Detail((PLOTS,), plots=False, longest=400),
    Detail((PLOTS, PROSE), plots=False, prose=False, longest=400),
    Detail((PLOTS, PROSE, MATRICES), False, False, False, longest=400),
    Detail((PLOTS, PROSE, LINES, MATRICES), False, False, False, WHOLE, longest=200),
)


@dataclass(frozen=True)
class Told:
    """What the page tells of one falsifier beside its first line."""

    prose: bool
    results: bool


@dataclass(frozen=True)
class Count:
    """A class of things, how many there are, and how it is named and coloured."""

    word: str
    count: int
    of: str


@dataclass(frozen=True)
class Choice:
    """One way to filter the falsifiers."""

    name: str
    label: str
    count: int


def render(project: Project, review: Review, since: Since, limit: int = LIMIT) -> str:
    """The page of a review and of what changed since a commit, in at most `limit` bytes.

    Raises ProjectError where not even the worst contract fits.
    """
    files, template = kept(project, review), _template()
    told = {"review": review, "files": files, "since": since, "limit": limit}
    for detail in _details(len(review.contracts)):
        page = _page(template, told, detail, {})
        room = limit - len(page.encode())
        if room >= 0:
            embedded = embed(files.values(), room)
            return _page(template, told, detail, embedded) if embedded else page
    raise ProjectError(
        f"a page of {limit - room:,} bytes at least; expected at most {limit:,}; "
        "name the contracts to report, or use `--format json`"
    )


def _details(contracts: int) -> Iterator[Detail]:
    """From all that there is to tell, over what DETAILS leave out, to the worst contract alone."""
    yield from DETAILS
    while contracts > 1:
        contracts //= 2
        said = f"all contracts but the {contracts} worst"
        yield replace(DETAILS[-1], omitted=(*DETAILS[-1].omitted, said), contracts=contracts)


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("tollens"),
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html")


def _page(
    template: Template, told: Mapping[str, Any], detail: Detail, embedded: Mapping[str, Embedded]
) -> str:
    review, files, since = told["review"], told["files"], told["since"]
    kills = Counter(kill.outcome for each in review.falsifiers for kill in each.kills)
    return template.render(
        **told,
        alarms=grouped(since.alarms),
        changes=changes(since),
        contracts=review.contracts[: detail.contracts],
        classes=classes,
        cut=lambda text: cut(text, detail.longest),
        detail=detail,
        embedded=embedded,
        exactly=_exactly,
        filters=choices(review),
        host=host,
        ids={each.loaded.contract.id for each in review.contracts[: detail.contracts]},
        killed=kills[Kill.KILLED],
        lowered=LOWERED,
        matrix_of=matrix,
        number=show,
        omitted=[*detail.omitted, *_left_out(files.values(), embedded)],
        runs=runs(review),
        saboteurs=kills.total(),
        scale=_scale,
        signed=signed,
        strip=lambda c: strip(c, review.date),
        tell=_teller(review, detail),
        style=Markup(stylesheet()),
        totals=totals(review),
        trend=drawn.trend,
        unproven=UNPROVEN,
        word_class=word_class,
    )


def stylesheet() -> str:
    return resources.files("tollens").joinpath("templates", "report.css").read_text()


def _teller(review: Review, detail: Detail) -> Callable[[FalsifierView], Told]:
    """What is told of each falsifier at a level of detail."""
    worst_first = sorted(review.falsifiers, key=lambda each: each.badness)
    whole = {each.falsifier.id for each in worst_first[: detail.whole]}

    def told(f: FalsifierView) -> Told:
        prose = detail.prose or f.discharge is not Discharge.DISCHARGED
        shown = f.falsifier.id in whole
        return Told(prose and shown, shown)

    return told


def cut(text: str, longest: int) -> str:
    """`text`, or its beginning and how much more there is."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]} … ({len(text) - longest:,} characters more)"


def _left_out(files: Iterable[Kept], embedded: Mapping[str, Embedded]) -> list[str]:
    count = len(list(left_out(files, embedded)))
    return [f"{count} attachment(s), named with size and sha256"] if count else []


def word_class(word: str) -> str:
    """The colour of a verdict, a discharge, a status, a fate or a word of what changed."""
    return "ok" if word.startswith("ACTIVE") else CLASSES.get(word, "open")


def signed(margin: float) -> str:
    """A margin with its sign, so that a broken bound is read at a glance."""
    return f"+{margin:.3g}" if margin > 0 else f"{margin + 0.0:.3g}"


def host(run: Run) -> str:
    """The machine of a run in a few words."""
    gpu = f", {run.host.gpu}" if run.host.gpu else ""
    cores = "1 core" if run.host.cores == 1 else f"{run.host.cores} cores"
    return f"{run.host.cpu}, {cores}{gpu}"


def _scale(f: FalsifierView, name: str, measured: MeasureResult) -> drawn.Scale | None:
    """The scale of a measure under the bound that the contract has today; none of `0 = 0`."""
    declared = f.falsifier.measures.get(name)
    if declared is None or str(declared) != measured.bound or _exactly(measured):
        return None
    return drawn.scale(declared, measured.value, measured.held)


def _exactly(measured: MeasureResult) -> bool:
    return measured.held and measured.bound.startswith("=")


def classes(f: FalsifierView) -> str:
    """What a falsifier can be filtered by."""
    found = [f"v-{f.verdict.lower()}"]
    found += ["open-claim"] * (f.discharge is not Discharge.DISCHARGED)
    found += ["stale"] * bool(f.stale)
    return " ".join(found)


def choices(review: Review) -> list[Choice]:
    """All falsifiers, those not discharged, those with stale evidence, and each verdict."""
    counts = Counter(name for each in review.falsifiers for name in classes(each).split())
    named = [("open-claim", "not discharged"), ("stale", "stale evidence")]
    named += [(f"v-{each.lower()}", each) for each in reversed(Verdict)]
    found = [Choice(name, label, counts[name]) for name, label in named if counts[name]]
    return [Choice("all", "all", len(review.falsifiers)), *found]


def totals(review: Review) -> list[Count]:
    """How many falsifiers have each discharge, the worst first."""
    counts = Counter(each.discharge for each in review.falsifiers)
    return [Count(each, counts[each], word_class(each)) for each in WORST]


def strip(c: ContractView, until: str) -> list[Count]:
    """The statuses that the contract had: a segment for each entry, as wide as its days."""
    entries = c.loaded.contract.status_history
    days = [_day(date) for date in (*(entry.date for entry in entries), until)]
    lasted = (min(60, max(0, later - day)) for day, later in pairwise(days))
    return [
        Count(entry.to, 1 + width, word_class(entry.to))
        for entry, width in zip(entries, lasted, strict=True)
    ]


def _day(date: str) -> int:
    """The number of a day; 0 for what is none, as a date in a history is only text."""
    try:
        return datetime.date.fromisoformat(date[:10]).toordinal()
    except ValueError:
        return 0


def runs(review: Review) -> dict[str, Run]:
    """The runs that the evidence rests on, the newest first."""
    found = {r.result.run: r.run for each in review.falsifiers for r in each.results}
    return dict(sorted(found.items(), key=lambda item: item[1].start, reverse=True))


def changes(since: Since) -> list[Section]:
    """The sections of what changed, after where the bar is lower."""
    lowered = Section(LOWERED, since.lowered)
    return [each for each in (lowered, *since.sections) if each.lines]
