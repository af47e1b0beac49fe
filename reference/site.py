"""mkdocs's hook: adds the generated pages and fills in the navigation's patterns.

Knows mkdocs; what is on the pages, the other modules of the folder know.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from reference.pages import PAGES, filled, generated

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)\)")
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


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    r"""What GitHub's Markdown has otherwise.

    In a table's code `\|` is a bar there, where this Markdown wants the bar alone. A link to a file
    of the repository beside the pages leads nowhere on the site, so that its words are left.
    """
    rows = (CODE.sub(_bars, line) if line[:1] == "|" else line for line in markdown.split("\n"))
    place = (Path(config.docs_dir) / page.file.src_uri).parent

    def unlinked(link: re.Match[str]) -> str:
        target = (place / link[2]).resolve()
        beside = target.exists() and not target.is_relative_to(Path(config.docs_dir))
        return link[1] if beside else link[0]

    return LINK.sub(unlinked, "\n".join(rows))


def _bars(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")
