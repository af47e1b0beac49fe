"""Tries to refute the drawing of dependencies.

Oracles: `depends_on` and the titles as this file wrote them, the statuses that `tollens status`
prints, and parsers that are not the harness's (XML, a tokenizer of dot's quoted strings).
"""

import itertools
import json
import re
from xml.etree import ElementTree

import pytest

from falsifiers.harness_command import command  # noqa: F401
from falsifiers.reviewed_project import Said, made
from tollens.verdicts import Kill, Verdict

SVG = "{http://www.w3.org/2000/svg}"
ODD = 'A "quoted" <b>title</b> & a back\\slash; ]]> %% --> n0'
CLAIM = {"rule": "r", "prediction": "p", "measures": {"error": {"le": 1}}, "kills": ["fault"]}
# Ids that are words of Mermaid or dot, a diamond, a long edge, and something on its own.
EDGES = {
    "end": [],
    "graph": ["end"],
    "subgraph": ["end"],
    "node-v1": ["graph", "subgraph"],
    "click-v1": ["node-v1", "end"],
    "alone-v1": [],
    **{f"wide-{i}-of-a-long-name-v1": ["graph"] for i in range(12)},
}
REFUTED = "end"


@pytest.fixture
def project(tmp_path, monkeypatch):
    contracts = {
        name: {
            "title": ODD,
            "depends_on": on,
            "falsifiers": [{"id": f"F-{name.upper()}", **CLAIM}],
        }
        for name, on in EDGES.items()
    }
    found = made(tmp_path, contracts)
    for name in EDGES:
        verdict = Verdict.FALSIFIED if name == REFUTED else Verdict.CORROBORATED
        fates = {"fault": Kill.KILLED}
        found.say(name, {f"F-{name.upper()}": Said(verdict, {"error": 0.5}, fates=fates)})
    monkeypatch.chdir(tmp_path)
    return found


PAIRS = {(name, each) for name, on in EDGES.items() for each in on}


@pytest.mark.falsifies("TOLLENS-GRAPH-001")
def test_every_form_draws_the_same_graph(project, command, observe):  # noqa: F811
    drawn = {
        "text": of_text(command("graph").out),
        "json": of_json(command("graph", "--format", "json").out),
        "mermaid": of_mermaid(command("graph", "--format", "mermaid").out),
        "dot": of_dot(command("graph", "--format", "dot").out),
        "svg": of_svg(command("graph", "--format", "svg").out),
    }
    statuses = {
        each["id"]: each["status"]
        for each in json.loads(command("status", "--format", "json").out)["contracts"]
    }
    wrong = {name: each for name, each in drawn.items() if each != (statuses, PAIRS)}
    order = re.findall(r"^[A-Z_]+ +(\S+)$", command("graph").out, re.MULTILINE)
    early = {pair for pair in PAIRS if order.index(pair[0]) < order.index(pair[1])}
    observe("wrong_forms", len(wrong))
    observe("before_what_it_rests_on", len(early))
    observe("edges", len(PAIRS))
    assert not wrong, wrong


def of_text(text):
    rows = re.split(r"^(?=[A-Z])", text, flags=re.MULTILINE)[1:]
    pairs = set()
    for row in rows:
        on = re.search(r"\son ((?:.|\n)*?)(?:weak below|\Z)", row)
        names = re.split(r",\s*", on[1].strip()) if on else []
        pairs |= {(row.split()[1], each) for each in names}
    nodes = {row.split()[1]: row.split()[0] for row in rows}
    return nodes, pairs


def of_json(text):
    found = json.loads(text)["contracts"]
    pairs = {(each["id"], on) for each in found for on in each["depends_on"]}
    return {each["id"]: each["status"] for each in found}, pairs


def of_mermaid(text):
    boxes = dict(re.findall(r'^ +(n\d+)\["([^"]*)"\]$', text, re.MULTILINE))
    names = {node: label.split("<br/>")[0] for node, label in boxes.items()}
    arrows = re.findall(r"^ +(\S+) --> (\S+)$", text, re.MULTILINE)
    pairs = {(names.get(start, start), names.get(end, end)) for start, end in arrows}
    return dict(label.split("<br/>") for label in boxes.values()), pairs


STRING = r'"((?:[^"\\]|\\.)*)"'


def of_dot(text):
    arrows = re.findall(rf"^ +{STRING} -> {STRING};$", text, re.MULTILINE)
    node = rf"^ +{STRING} \[label={STRING}, tooltip={STRING}, fillcolor={STRING}\];$"
    nodes = re.findall(node, text, re.MULTILINE)
    titles = {re.sub(r"\\(.)", r"\1", title) for _, _, title, _ in nodes}
    assert titles == {ODD}, titles
    return dict(label.split("\\n") for _, label, _, _ in nodes), set(arrows)


def boxes_of(root):
    found = {}
    for group in root.iter(f"{SVG}g"):
        rect, told = group.find(f"{SVG}rect"), [each.text for each in group.iter(f"{SVG}text")]
        place = [float(rect.get(key)) for key in ("x", "y", "width", "height")]
        found[told[0]] = (told[1], *place, group.find(f"{SVG}title").text)
    return found


def ends_of(path):
    numbers = [float(each) for each in re.findall(r"-?[0-9.]+", path.get("d"))]
    return tuple(numbers[:2]), tuple(numbers[-2:])


def of_svg(text):
    root = ElementTree.fromstring(text)
    boxes = boxes_of(root)
    assert {each[-1] for each in boxes.values()} == {f"{name}: {ODD}" for name in boxes}
    pairs = set()
    for path in root.iter(f"{SVG}path"):
        start, end = ends_of(path)
        [above] = [name for name, box in boxes.items() if on_edge(start, box, box[2] + box[4])]
        [below] = [name for name, box in boxes.items() if on_edge(end, box, box[2])]
        pairs.add((above, below))
    return {name: box[0] for name, box in boxes.items()}, pairs


def on_edge(point, box, y):
    return box[1] <= point[0] <= box[1] + box[3] and abs(point[1] - y) < 0.2


@pytest.mark.falsifies("TOLLENS-GRAPH-002")
def test_boxes_stand_apart_and_foundations_below(project, command, observe):  # noqa: F811
    root = ElementTree.fromstring(command("graph", "--format", "svg").out)
    boxes = boxes_of(root)
    places = {name: box[1:5] for name, box in boxes.items()}
    width, height = map(float, root.get("viewBox").split()[2:])
    outside = [
        name
        for name, (x, y, w, h) in places.items()
        if x < 0 or y < 0 or x + w > width or y + h > height
    ]
    overlaps = [
        (one, other)
        for one, other in itertools.combinations(places, 2)
        if overlap(places[one], places[other])
    ]
    upward = [pair for pair in PAIRS if places[pair[0]][1] >= places[pair[1]][1]]
    narrow = [name for name, place in places.items() if place[2] < 7 * len(name)]
    observe("overlaps", len(overlaps))
    observe("boxes_outside", len(outside))
    observe("edges_upward", len(upward))
    observe("boxes_too_narrow", len(narrow))


def overlap(one, other):
    (x, y, w, h), (a, b, c, d) = one, other
    return x < a + c and a < x + w and y < b + d and b < y + h


@pytest.mark.falsifies("TOLLENS-GRAPH-003")
def test_what_rests_on_something_weak_says_so(project, command, observe):  # noqa: F811
    found = json.loads(command("graph", "--format", "json").out)["contracts"]
    said = {each["id"]: each["weak_below"] for each in found}
    reach = set(PAIRS)
    for _ in EDGES:
        reach |= {(a, d) for a, b in reach for c, d in PAIRS if b == c}
    expected = {name: [REFUTED] if (name, REFUTED) in reach else [] for name in EDGES}
    text = command("graph").out
    told = re.findall(r"^[A-Z_]+ +(\S+)\n(?: .*\n)*? +weak below: end$", text, re.MULTILINE)
    wrong = {name for name in EDGES if said[name] != expected[name]}
    wrong |= set(told) ^ {name for name, weak in expected.items() if weak}
    observe("wrongly_told", len(wrong))
    observe("wide_lines", sum(len(line) > 80 for line in text.splitlines()))
    assert not wrong, (said, told)
