"""Tries to refute the report: that page, comment and JSON tell what the evidence says, safely.

Oracles: the evidence files read as JSON, git's own versions of them, the changes that
`report_cases` made, Python's HTML parser, and for Markdown the parser of markdown-it.
"""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from importlib import resources

import pytest
from markdown_it import MarkdownIt

from falsifiers import report_cases as cases
from falsifiers.harness_command import command  # noqa: F401
from falsifiers.html_page import Page
from falsifiers.large_project import FALSIFIERS, files_of, large_review, reproduce_line
from falsifiers.report_cases import BASE, HOSTILE_PLACES, marked, reviewed
from tollens import comment as markdown
from tollens import page as html
from tollens.errors import ProjectError
from tollens.moved import Line
from tollens.review import Review
from tollens.since import Section, Since

DISCHARGES = {
    "F-SOUND-001": "DISCHARGED",
    "F-HELD-001": "DISCHARGED",
    "F-BROKEN-001": "FALSIFIED",
    "F-SURVIVED-001": "OPEN",
    "F-BLOCKED-001": "BLOCKER_FIXTURE_ABSENT",
    "F-GONE-001": "BLOCKER_FIXTURE_ABSENT",
    "F-ODD-001": "FALSIFIED",
    "F-STALE-001": "OPEN",
    "F-SPOILT-001": "OPEN",
    "F-NEW-001": "OPEN",
}


@pytest.fixture
def project(monkeypatch):
    found = reviewed()
    monkeypatch.chdir(found.root)
    return found


@pytest.fixture
def page(project, command, tmp_path):  # noqa: F811
    """The page as a parser sees it, with what changed since the base."""
    out = tmp_path / "report.html"
    assert command("report", "-o", out, "--base", BASE).code == 0
    return Page(out.read_text())


def evidence(root, name):
    return json.loads((root / f"evidence/{name}/evidence.json").read_text())["predicate"]


def results(root):
    """(contract, result, run) of every result in the project's evidence that is not altered."""
    for name in cases.CONTRACTS.keys() - {"new-v1", "removed-v1", "spoilt-v1"}:
        predicate = evidence(root, name)
        for each in predicate["results"]:
            yield name, each, predicate["runs"][each["run"]]


def shown(wrong):
    print(*wrong, sep="\n")
    return len(wrong)


@pytest.mark.falsifies("TOLLENS-REPORT-001")
def test_no_text_becomes_markup(page, observe):
    foreign = [
        (tag, attributes)
        for tag, attributes in page.whole.elements
        if tag in ("script", "iframe", "object", "embed", "form")
        or any(name.startswith("on") for name in attributes)
        or not attributes.get("src", "data:").startswith("data:")
        or re.match("javascript:|https?:", attributes.get("href", ""))
    ]
    lost = [each for each in HOSTILE_PLACES if marked(each) not in page.whole.text]
    policy = [a["content"] for t, a in page.whole.elements if "http-equiv" in a]
    observe("foreign_elements", shown(foreign))
    observe("lost_texts", shown(lost))
    observe("texts", len(HOSTILE_PLACES))
    observe("scripts_are_refused", "default-src 'none'" in policy[0])


@pytest.mark.falsifies("TOLLENS-REPORT-002")
def test_each_falsifier_is_told_as_the_evidence_has_it(project, page, observe):
    stale = {"F-STALE-001", "F-QUIET-001", "F-CHANGED-002", "F-CHANGED-004"}
    wrong, facts = [], 0
    for name, result, run in results(project.root):
        if result["falsifier"] == "F-CHANGED-003":
            continue
        part = page.by_id(result["falsifier"])
        expected = [result["reproduce"], result["reason"], f"level {result['level']}"]
        expected.append(RULES[result["falsifier"]])
        expected += [run["host"]["cpu"], run["start"][:10], result["verdict"]]
        expected += [measure_line(*each) for each in result["measures"].items()]
        said = [("STALE" in part.text) == (result["falsifier"] in stale)]
        said += [" ".join(text.split()) in part.text for text in expected]
        scales = part.styles("s", "x")
        said += [len(scales) == len(result["measures"]) - (result["falsifier"] == "F-QUIET-001")]
        said += [scale["a"] <= scale["v"] <= scale["z"] for scale in part.styles("s")] + [
            not scale["a"] <= scale["v"] <= scale["z"] for scale in part.styles("x")
        ]
        said += [bool(part.styles("x")) == any(not m["held"] for m in result["measures"].values())]
        facts += len(said)
        wrong += [(name, result["falsifier"], i) for i, each in enumerate(said) if not each]
    discharged = {name: page.by_id(name).text for name in DISCHARGES}
    wrong += [name for name, each in DISCHARGES.items() if f"{name} {each}" not in discharged[name]]
    wrong += ["why stale"] * ("changed since: small/other.py" not in page.by_id("F-STALE-001").text)
    wrong += ["gone"] * ("the blocker is gone" not in page.by_id("F-GONE-001").text)
    wrong += ["spoilt"] * ("altered: its digest" not in page.by_id("spoilt-v1").text)
    observe("wrong_facts", shown(wrong))
    observe("facts", facts + len(DISCHARGES) + 3)


RULES = {each["id"]: each["rule"] for c in cases.CONTRACTS.values() for each in c["falsifiers"]}
RULES["F-CHANGED-005"] = cases.claim("F-CHANGED-005")["rule"]


def measure_line(name, measure):
    """As a reader would write it: the value, the bound, and how far it is on the right side."""
    unit = f", {measure['unit']}" if measure["unit"] else ""
    broken = "" if measure["held"] else "broken "
    sign = "+" if measure["held"] else "-"
    distance = abs(measure["margin"])
    told = f"{measure['value']:g} {measure['bound']}, margin {sign}{distance:.3g}"
    return f"{name}{unit}{broken}{told}"


@pytest.mark.falsifies("TOLLENS-REPORT-003")
def test_the_worst_comes_first_and_time_runs_forward(project, page, observe):
    articles = [part.attributes["id"] for part in page.parts if part.tag == "article"]
    heads = {name: page.by_id(name).text for name in articles}
    statuses = {name: re.match(rf"{name} [\d.]+([A-Z_]+) ", heads[name]) for name in articles}
    statuses = {name: found and found[1] for name, found in statuses.items()}
    order = [name for name in page.ids if name in {each["id"] for each in cases.MIXED}]
    badness = ["F-BROKEN-001", "F-SURVIVED-001", "F-GONE-001", "F-BLOCKED-001", "F-HELD-001"]
    misplaced = [("contracts", articles)] * (articles != list(STATUSES))
    misplaced += [("falsifiers", order)] * (order != badness)
    for name in articles:
        entries = re.findall(
            r"from: (\S+)\n +to: (\S+)", (project.root / f"contracts/{name}.yaml").read_text()
        )
        told = re.findall(r"([A-Z_]+) → ([A-Z_]+)", page.inside(name, "ol").text)
        misplaced += [("history", name, told)] * (told != entries)
    summary = "4 of 15 corroborated, 2 blocked, 6 not run, 1 vacuous, 2 falsified; 8 contract(s)"
    header = next(part for part in page.parts if part.tag == "header").text
    choices = re.findall(r"([A-Za-z_ ]+) \((\d+)\)", page.parts_of("fieldset").text)
    counts = {label.strip().removeprefix("Show").strip(): int(count) for label, count in choices}
    observe("wrong_statuses", shown(statuses.items() ^ STATUSES.items()))
    observe("misplaced", shown(misplaced))
    observe("denominator_on_top", summary in header)
    observe("wrong_filters", shown([counts] * (counts != FILTERS)))


STATUSES = {  # today, whatever was recorded; the worst first
    "mixed-v1": "FALSIFIED",
    "odd-v1": "FALSIFIED",
    "new-v1": "PROPOSED",
    "quiet-v1": "PROPOSED",
    "spoilt-v1": "PROPOSED",
    "stale-v1": "PROPOSED",
    "changed-v1": "PARTIAL_ALGORITHM_LEVEL",
    "sound-v1": "ACTIVE_ALGORITHM_LEVEL",
}
FILTERS = {"all": 15, "not discharged": 12, "stale evidence": 4, "FALSIFIED": 2, "VACUOUS": 1}
FILTERS |= {"NOT_RUN": 6, "BLOCKED": 2, "CORROBORATED": 4}


@pytest.mark.falsifies("TOLLENS-REPORT-004")
def test_the_kill_matrix_and_the_plots_show_what_was_recorded(project, page, observe):
    matrix = page.inside("mixed-v1", "details", "Kill matrix")
    text, classes = matrix.text, [a.get("class") for t, a in matrix.elements if t == "td"]
    columns = [each["id"] for each in cases.MIXED]
    marks = "fault ✓ ✓ ✓ ? ? other-fault ✗"
    wrong = [text] * (not text.startswith("Kill matrix: 3 of 6 killed"))
    wrong += [text] * (not re.search(" ".join((*columns, re.escape(marks))), text))
    wrong += [classes] * (classes != [None, *["ok"] * 3, *["block"] * 2, None, "bad", None])
    path = "evidence/sound-v1/evidence.json"
    commits = project.git("log", "--reverse", "--format=%H", "--", path).split()
    versions = [json.loads(project.git("show", f"{each}:{path}"))["predicate"] for each in commits]
    values = [each["results"][0]["measures"]["error"]["value"] for each in versions]
    sound = page.by_id("F-SOUND-001")
    lines = [a["d"] for t, a in sound.elements if t == "path"]
    points = [[int(n) for n in re.findall(r"-?\d+", line)] for line in lines]
    rising = [each[1] > each[3] for each in points if len(each) == 4]
    dates = f"{values[0]:g} on {cases.FIRST[:10]}, {values[-1]:g} on {cases.SECOND[:10]}"
    wrong += [(points, sound.text)] * (rising != [values[0] < values[1]] or dates not in sound.text)
    observe("wrong", shown(wrong))
    observe("recorded_runs", len(set(values)))


@pytest.mark.falsifies("TOLLENS-REPORT-005")
def test_a_large_project_stays_under_two_megabytes_and_says_what_it_leaves_out(observe):
    project, review, since = large_review()
    text = html.render(project, review, since)
    parsed = Page(text)
    files = files_of(project)
    embedded = {
        hashlib.sha256(base64.b64decode(a["src"].partition("base64,")[2])).hexdigest()
        for t, a in parsed.whole.elements
        if t == "img"
    }
    out = {sha: size for sha, size in files.items() if sha not in embedded}
    unnamed = [
        sha for sha, size in out.items() if f"{size:,} bytes, sha256 {sha}" not in parsed.whole.text
    ]
    missing = set(FALSIFIERS) - set(parsed.ids)
    details = {p.attributes.get("id"): p.text for p in parsed.parts if p.tag == "details"}
    reproduced = sum(reproduce_line(name) in details[name] for name in FALSIFIERS)
    observe("bytes", len(text.encode()))
    observe("falsifiers_missing", len(missing))
    observe("reproduce_lines", reproduced)
    observe("attachments_unnamed", shown(unnamed))
    observe("attachments_shown", len(embedded & set(files)))
    observe("attachments_left_out", len(out))


PARTS = {  # what is left out, in its words → what of the page shows that it is not
    "plots of earlier runs": "<svg",
    "predictions and advice": "as predicted",
    "kill matrices": "<table class=k",
    "one line of each falsifier": "<code>pytest",
    "all contracts but": "<article",
    "attachment(s)": "<img",
}


@pytest.mark.falsifies("TOLLENS-REPORT-010")
def test_whatever_is_left_out_is_said(observe):
    project, review, since = large_review()
    some = replace(review, contracts=(*review.contracts[:2], *review.contracts[-12:]))
    whole = html.render(project, some, since, 10**9)
    without = len(re.sub(r"data:image[^\"]*", "", whole))
    silent, wide, told = [], [], set()
    for share in (1, 0.85, 0.7, 0.6, 0.3):
        text = html.render(project, some, since, limit := int(without * share))
        said = re.findall("left out: (.*)", text)
        less = [word for word, mark in PARTS.items() if text.count(mark) < whole.count(mark)]
        silent += [(share, word) for word in less if word not in "".join(said)]
        wide += [(share, len(text.encode()), limit)] * (len(text.encode()) > limit)
        told.add(tuple(less))
    observe("left_out_in_silence", shown(silent))
    observe("alarms_left_out_in_silence", shown(unlisted_alarms(project, some)))
    with pytest.raises(ProjectError) as refusal:
        html.render(project, some, since, 1000)
    named = re.search(r"[\d,]{5,} bytes at least", str(refusal.value))
    observe("names_the_least_size", named is not None)
    observe("too_large", shown(wide))
    observe("ways_to_leave_out", len(told))


ALARMS = 300


def unlisted_alarms(project, review):
    """What needs attention that a page with much of it neither lists nor counts as not listed."""
    lines = tuple(Line("no evidence", f"F-LOUD-{i}", f"of kind {i}") for i in range(ALARMS))
    few = replace(review, contracts=review.contracts[:1])
    text = html.render(project, few, Since("", "", lines))
    listed = [i for i in range(ALARMS) if f">F-LOUD-{i}<" in text]
    told = re.search(r"and (\d+) more, which are not listed", text)
    return list(range(ALARMS - len(listed) - (int(told[1]) if told else 0)))


def comment_of(text):
    """What GitHub's renderer would make of it: code texts, and markup that nobody meant."""
    tokens = MarkdownIt("commonmark").parse(text)
    inner = [each for token in tokens for each in (token.children or [])]
    kinds = ("html_block", "html_inline", "link_open", "image", "em_open")
    foreign = [each.content for each in (*tokens, *inner) if each.type in kinds]
    mentions = [each.content for each in inner if each.type == "text" and "@" in each.content]
    codes = [each.content for each in inner if each.type == "code_inline"]
    return codes, foreign + mentions


LOUD = {
    "loosened": r"lower bar\*\* .*`changed-v1: F-CHANGED-001\.measures\.error`.*≤ 1 -> ≤ 2",
    "loosened in silence": r"version too low\*\* `quiet-v1`: `1\.0\.0 -> 1\.0\.1",
    "falsifier removed": r"`changed-v1: F-CHANGED-003`: `falsifier removed`",
    "saboteur removed": r"`changed-v1: F-CHANGED-002\.kills`: `other-fault need not",
    "contract removed": r"contract removed\*\* `removed-v1`: `with 2 falsifier",
    "stale": r"stale at level algorithm\*\* .*`F-STALE-001`.*small/other\.py",
    "blocker gone": r"the blocker is gone\*\* `F-GONE-001`",
    "falsified": r"FALSIFIED\*\* `F-BROKEN-001`: `count is 3`",
    "altered evidence": r"unusable evidence\*\* `spoilt-v1`",
}
TOLD = {
    "verdict": r"- \*\*FALSIFIED\*\* `F-BROKEN-001 at level algorithm`: `was CORROBORATED",
    "discharge": r"- \*\*OPEN\*\* `F-SURVIVED-001`: `was DISCHARGED`",
    "added": r"- \*\*minor\*\* `changed-v1: F-CHANGED-005`: `falsifier added`",
    "survivor": r"- \*\*survived\*\* `other-fault under F-SURVIVED-001`: `was killed`",
    "measure": r"\*\*moved\*\* `F-SOUND-001.*error`: `0\.25 -> 0\.75.*\+0\.75 -> \+0\.25`",
    "first broken": r"### Measures \(3\)\n\n- \*\*broken",
    "before": r"Since `[0-9a-f]{12}`, where it was 11 of 17 corroborated",
}


@pytest.mark.falsifies("TOLLENS-REPORT-006")
def test_the_comment_tells_every_change_and_is_loud_where_the_bar_sinks(project, command, observe):  # noqa: F811
    text = command("report", "--format", "markdown", "--base", BASE).out
    rows = text.splitlines()
    loud = "\n".join(row for row in rows if row.startswith("> "))
    codes, foreign = comment_of(text)
    quiet = [name for name, pattern in LOUD.items() if not re.search(pattern, loud)]
    untold = [name for name, pattern in TOLD.items() if not re.search(pattern, text)]
    first = next(i for i, row in enumerate(rows) if row.startswith("> - "))
    late = [row for row in rows[:first] if row.startswith("- ")]
    plain = command("report", "--format", "markdown").out
    ranks = {title: [rank(title, row) for row in rows] for title, rows in by_title(text).items()}
    misordered = [title for title, found in ranks.items() if found != sorted(found)]
    observe("misordered", shown(misordered))
    observe("ranked_lines", sum(map(len, ranks.values())))
    observe("quiet_changes", shown(quiet))
    observe("untold_changes", shown(untold + late))
    observe("foreign_markup", shown(foreign))
    observe("lost_texts", int(marked("reason").strip() not in codes))
    arguments = ["--format", "markdown", "--base", BASE]
    alone = command("report", "contracts/sound-v1.yaml", *arguments).out
    others = re.findall(r"`(?:changed|quiet|mixed|new|odd)-v1", alone)
    observe("told_of_what_was_not_asked_for", shown(others))
    observe("taken_for_a_contract", shown(re.findall("not compared.*", text)))
    observe("changes_without_a_base", len(re.findall("### |Since|lower bar", plain)))


WORST_FIRST = {  # the words of each part of the comment
    "loud": (
        *("contract removed", "version too low", "lower bar", "unusable evidence", "FALSIFIED"),
        *("VACUOUS", "saboteur survived", "stale at level algorithm", "no evidence"),
        "the blocker is gone",
    ),
    "Verdicts": ("FALSIFIED", "VACUOUS", "NOT_RUN", "BLOCKED", "CORROBORATED"),
    "Discharges": (
        *("FALSIFIED", "OPEN", "PROPOSED", "PARTIAL_ALGORITHM_LEVEL", "BLOCKER_FIXTURE_ABSENT"),
    ),
    "Claims": ("not compared", "lower bar", "minor"),
    "Saboteurs": ("survived", "unproven", "killed"),
    "Measures": ("broken", "moved"),
}


def by_title(text):
    """The comment's lines by the part that they stand in."""
    parts = re.split(r"^### (\w+) \(\d+\)$", f"### loud (0)\n{text}", flags=re.MULTILINE)
    rows = (re.findall(r"^(?:> )?- .*", part, re.MULTILINE) for part in parts[2::2])
    return dict(zip(parts[1::2], rows, strict=True))


def rank(title, row):
    """Smaller is worse: by the word, and for a measure by the share of the margin that is left."""
    word = re.search(r"\*\*(.+?)\*\*", row)[1]
    margins = re.search(r"margin (\S+) -> ([^`]+)`", row)
    old, new = map(float, margins.groups()) if margins else (1, 1)
    return WORST_FIRST[title].index(word), (new - old) / abs(old)


@pytest.mark.falsifies("TOLLENS-REPORT-007")
def test_a_long_comment_is_cut_and_says_by_how_much(observe):
    review, since = Review("p", "", None, False, ()), Since("", "", ())
    lines = tuple(Line("moved", f"F-{i:05}", "x" * (40 + i % 900)) for i in range(3000))
    whole = markdown.comment(review, replace(since, sections=(Section("Measures", lines[:20]),)))
    cut = markdown.comment(review, replace(since, sections=(Section("Measures", lines),)))
    kept = len(re.findall("^- ", cut, re.MULTILINE))
    told = re.search(r"Cut at 60,000 characters: ([\d,]+) line\(s\) left out", cut)
    said = int(told[1].replace(",", "")) if told else 0
    observe("characters", len(cut))
    observe("lines_unaccounted_for", abs(3000 - kept - said))
    observe("cut_where_it_fits", "Cut at" in whole)
    observe("used", len(cut) / 60_000)


NOTHING = '{"contracts": [], "since": {"lowered": []}}'


@pytest.mark.falsifies("TOLLENS-REPORT-008")
def test_json_and_exit_codes_are_as_documented(project, command, observe, tmp_path):  # noqa: F811
    uses = {
        0: [
            ["--format", "json"],
            ["--format", "markdown"],
            ["contracts/sound-v1.yaml", "-o", tmp_path / "a"],
        ],
        2: [
            ["--base", "nothing"],
            ["--base=--all"],
            ["absent.yaml"],
            ["-o", tmp_path / "no" / "x"],
            ["--format", "pdf"],
        ],
    }
    ran = [
        (code, each, command("report", *each))
        for code, each in itertools.chain.from_iterable(
            zip(itertools.repeat(c), u) for c, u in uses.items()
        )
    ]
    wrong = [(each, found.code, found.err) for code, each, found in ran if found.code != code]
    told = command("report", "--format", "json", "--base", BASE).out
    found = json.loads(told or NOTHING)
    told = {f["id"]: f["discharge"] for c in found["contracts"] for f in c["falsifiers"]}
    wrong += [told] * any(told.get(name) != each for name, each in DISCHARGES.items())
    wrong += [found["since"]] * (len(found["since"]["lowered"]) != 6)
    written = [p for p in project.root.iterdir() if p.name.startswith("report")]
    observe("wrong", shown(wrong))
    observe("uses", len(ran))
    observe("files_nobody_asked_for", len(written))


AXE = "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html.slice(0, 160)))"
HIDDEN = """[...document.querySelectorAll('details>*:not(summary)')].filter(e =>
  e.getBoundingClientRect().height == 0 && e.textContent.trim()).length"""
SHOWN = "[...document.querySelectorAll('.f')].filter(e => e.getClientRects().length).map(e => e.id)"
CELLS = """new Set([...document.querySelectorAll('.k td[class]')].map(
  e => getComputedStyle(e).backgroundColor)).size"""
LIGHT, DARK = "rgb(253, 253, 252)", "rgb(21, 24, 28)"
OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.falsifies("TOLLENS-REPORT-009")
def test_the_page_in_a_browser(project, command, observe, tmp_path):  # noqa: F811
    from falsifiers.browser import browser

    out = tmp_path / "report.html"
    command("report", "-o", out, "--base", BASE)
    seen = browser()
    over, messages, findings, papers, cells = [], [], [], [], []
    # Pictures are no attachments: they show commit, date and the machine's fonts, so that each run
    # would give other bytes and every evidence another diff.
    for width, dark in ((375, False), (375, True), (1280, True)):
        seen.open(out, width, dark)
        messages += seen.messages
        seen.run("document.querySelectorAll('details').forEach(each => each.open = true)")
        over.append(seen.run(OVER))
        papers.append(seen.run("getComputedStyle(document.body).backgroundColor"))
        cells.append(seen.run(CELLS))
        seen.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text() + ";0")
        findings += seen.run(AXE)
    title = seen.run("document.title")
    seen.run("document.getElementById('_only-v-falsified').focus()")
    seen.run("document.activeElement.click()")
    filtered = set(seen.run(SHOWN)) ^ {"F-BROKEN-001", "F-ODD-001"}
    seen.open(out, 1280, media="print")
    hidden = seen.run(HIDDEN)
    seen.open(out, 1280)
    seen.run("document.querySelector('#F-SOUND-001 summary').focus()")
    seen.press("Enter")
    observe("overflowing_pixels", max(over))
    observe("console_messages", shown(messages))
    observe("accessibility_findings", shown(findings))
    observe("title_is_kept", title.endswith("what holds"))
    observe("falsifiers_filtered_wrongly", shown(filtered))
    observe("opens_by_keyboard", seen.run("document.getElementById('F-SOUND-001').open"))
    observe("hidden_in_print", hidden)
    observe("dark_paper_is_dark", papers == [LIGHT, DARK, DARK])
    observe("cell_colours", min(cells))
