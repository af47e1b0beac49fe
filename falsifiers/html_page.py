"""An HTML page read with Python's own parser, for falsifiers that look at it; knows no harness."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

PARTS = ("article", "details", "section", "table", "header", "fieldset", "ol")
BLOCKS = ("p", "li", "td", "th", "tr", "h1", "h2", "h3", "summary", "pre", *PARTS)


@dataclass
class Part:
    """An element that holds others, with everything inside it: text, elements, attributes."""

    tag: str
    attributes: dict[str, str]
    texts: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts)).strip()

    def styles(self, *classes: str) -> list[dict[str, int]]:
        """The custom properties of the elements that have one of the classes."""
        found = (a for _, a in self.elements if a.get("class") in classes and "style" in a)
        pairs = (re.findall(r"--(\w):(-?\d+)", a["style"]) for a in found)
        return [{name: int(value) for name, value in each} for each in pairs]


class Page(HTMLParser):
    """All parts of a page, in order; `whole` is the page itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.whole = Part("", {})
        self.parts: list[Part] = []
        self.open = [self.whole]
        self.raw = ""  # what a style or a script holds is no text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        if tag in PARTS:
            self.open.append(Part(tag, attributes))
            self.parts.append(self.open[-1])
        self.raw = tag if tag in ("style", "script") else ""
        for part in self.open:
            part.elements.append((tag, attributes))
            part.texts += [" "] * (tag in BLOCKS)

    def handle_endtag(self, tag):
        self.raw = ""
        if tag in PARTS:
            self.open.pop()

    def handle_data(self, data):
        for part in self.open:
            part.texts += [data] * (not self.raw)

    def parts_of(self, tag: str) -> Part:
        return next(part for part in self.parts if part.tag == tag)

    def by_id(self, name: str) -> Part:
        return next(part for part in self.parts if part.attributes.get("id") == name)

    def inside(self, outer: str, tag: str, start: str = "") -> Part:
        """The part of a kind inside the element with an id whose text starts so."""
        at = self.parts.index(self.by_id(outer))
        return next(p for p in self.parts[at:] if p.tag == tag and p.text.startswith(start))

    @property
    def ids(self) -> list[str]:
        return [part.attributes["id"] for part in self.parts if "id" in part.attributes]
