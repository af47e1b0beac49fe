"""Text in lines of 80 columns; only a word that is longer by itself makes a line longer."""

from __future__ import annotations

import textwrap

WIDTH = 80


def wrap(
    text: str,
    first: str = "",
    rest: str = "",
    rows: int | None = None,
    break_long_words: bool = False,
) -> list[str]:
    """`text` in lines that start with `first` and then `rest`; at most `rows` of them."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=break_long_words,
        break_on_hyphens=False,
        max_lines=rows,
        placeholder=" …",
    )
