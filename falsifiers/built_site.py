"""The documentation as mkdocs builds it: what it warns of, and which links lead nowhere.

Links are looked up in the HTML, without mkdocs: its own check is not the only one.
"""

import logging
import re
import warnings as python_warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from falsifiers.doc_pages import ROOT

MARKDOWN = re.compile(r"^(- |\* |```)|\|---", re.MULTILINE)


class Warnings(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def build(folder: Path) -> list[str]:
    """Build the site into a folder; what mkdocs warns of."""
    from mkdocs.commands.build import build as build_site
    from mkdocs.config import load_config

    warnings, logger = Warnings(), logging.getLogger("mkdocs")
    logger.addHandler(warnings)
    try:
        with python_warnings.catch_warnings():  # of mkdocs's own code
            python_warnings.simplefilter("ignore")
            build_site(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logger.removeHandler(warnings)
    return warnings.said


class Page(HTMLParser):
    """The ids of a page, where its links lead, and the text of its paragraphs without code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.paragraphs: list[str] = []
        self.inside: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside.add(tag)
        if tag == "p":
            self.paragraphs.append("")
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif (tag, name) in (("a", "href"), ("img", "src")) and value:
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        self.inside.discard(tag)

    def handle_data(self, data: str) -> None:
        if "p" in self.inside and "code" not in self.inside:
            self.paragraphs[-1] += data


def unrendered(folder: Path) -> Iterator[str]:
    """Paragraphs that hold Markdown: a list or table without the empty line before it, a fence."""
    for file in folder.rglob("*.html"):
        for text in Page(file.read_text("utf-8")).paragraphs:
            if MARKDOWN.search(text):
                yield f"{file.relative_to(folder)}: {text}"


def dead_links(folder: Path) -> Iterator[str]:
    """Links of the built site to a file or a place that is not there."""
    files = {path.resolve(): path for path in folder.rglob("*.html")}
    pages = {path: Page(file.read_text("utf-8")) for path, file in files.items()}
    for path, page in pages.items():
        for link in page.links if path.name != "404.html" else ():
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            ids = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in ids):
                yield f"{path.relative_to(folder.resolve())}: {link}"


def listed(folder: Path) -> set[str]:
    """The pages that the start page's navigation leads to."""
    start = (folder / "index.html").resolve()
    links = (urlsplit(each).path for each in Page(start.read_text("utf-8")).links)
    root = folder.resolve()
    found = {(root / unquote(each)).resolve() for each in links if each.endswith(".html")}
    return {each.relative_to(root).as_posix() for each in found if each.is_relative_to(root)}
