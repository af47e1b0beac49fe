"""mkdocs's hook: adds the generated pages and fills in the navigation's patterns.

Knows mkdocs; what is on the pages, the other modules of the folder know.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from reference.pages import PAGES, filled, generated

CODE = re.compile(r"`[^`]+`")


def on_config(config: Any) -> Any:
    folder = Path(config.docs_dir)
    written = [path.relative_to(folder).as_posix() for path in folder.rglob("*.md")]
    config.nav = filled(config.nav, sorted({*written, *PAGES}))
    return config


def on_files(files: Files, config: Any) -> Files:
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    r"""Code in a table: `\|` is how GitHub has a bar there, this Markdown wants the bar alone."""
    rows = (CODE.sub(_bars, line) if line[:1] == "|" else line for line in markdown.split("\n"))
    return "\n".join(rows)


def _bars(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")
