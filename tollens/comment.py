"""The comment for a pull request, in GitHub's Markdown: the worst first, under 60,000 characters.

Whatever comes from contracts or evidence stands in code spans: it makes no markup, no link, and
calls nobody. Where lines are left out, the last line says how many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tollens.moved import Line
from tollens.review import Review
from tollens.since import Since, grouped

LIMIT = 60_000
LONGEST = 600  # characters of one text
MANY = 40  # names in one line
LAST = 400  # characters kept for the line that says what was left out


def comment(review: Review, since: Since) -> str:
    """The whole comment; ends with a newline."""
    kept, room = [], LIMIT - LAST
    lines = list(_lines(review, since))
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    missing = sum(line.lstrip("> ").startswith("- ") for line in lines[len(kept) :])
    if missing:
        kept += ["", _cut(missing)]
    return "\n".join(kept) + "\n"


def _cut(missing: int) -> str:
    return (
        f"**Cut at {LIMIT:,} characters: {missing:,} line(s) left out.** "
        "`tollens report --format json` has them all."
    )


def _lines(review: Review, since: Since) -> Iterator[str]:
    yield f"## Tollens: {review.summary}"
    yield ""
    if since.commit:
        yield f"Since {_code(since.commit[:12])}, where it was {since.summary}."
        yield ""
    if since.loud:
        yield "> [!CAUTION]"
        yield from (f"> {_bullet(line, about)}" for line, about in grouped(since.loud))
        yield ""
    for section in since.sections:
        yield f"### {section.title} ({len(section.lines)})"
        yield ""
        yield from (_bullet(line, [line.about]) for line in section.lines)
        yield ""
    if not since.loud and not since.sections:
        yield "Nothing changed." if since.commit else "Nothing needs attention."


def _bullet(line: Line, about: list[str]) -> str:
    told = f": {_code(line.text)}" if line.text else ""
    more = f" and {len(about) - MANY:,} more" if len(about) > MANY else ""
    return f"- **{line.word}** {', '.join(map(_code, about[:MANY]))}{more}{told}"


def _code(text: str) -> str:
    """`text` in a code span whose fence is longer than any run of backticks in it."""
    flat = " ".join(text.split())
    if len(flat) > LONGEST:
        flat = f"{flat[:LONGEST]} … ({len(flat) - LONGEST:,} characters more)"
    fence = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    space = " " if len(fence) > 1 or not flat else ""
    return f"{fence}{space}{flat}{space}{fence}"
