"""Tries to refute how contracts in the provable-contracts dialect are read and imported.

Oracles: the table of forms, each written beside what it states; the edit that made a finding due;
every scalar of a drawn document, looked for in what became of it; and the dates of a history.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from falsifiers import dialect_cases as cases
from falsifiers.dialect_cases import EDITS, FORMS, GOOD, IDS, Edit, tollens
from falsifiers.sample_project import SampleProject
from falsifiers.sample_tests import HOLDS, MARKS
from falsifiers.thorough import THOROUGH
from tollens import contract, dialect, importing, source
from tollens.errors import ContractError

HERE = "contracts/scale-v1.yaml"


@pytest.fixture
def project(pytester, monkeypatch):
    made = SampleProject(pytester, monkeypatch)
    made.write(HERE, GOOD)
    return made


def read(text: str, name: str = "scale-v1.yaml") -> dialect.Foreign:
    return dialect.Foreign(Path(name), source.parse(text, name))


@pytest.mark.falsifies("TOLLENS-DIALECT-001")
def test_each_form_is_recognised_and_read(observe):
    misread = {
        form: found
        for form, (text, expected) in FORMS.items()
        for found in [[tuple(map(each.said, PARTS)) for each in read(text).falsifiers]]
        if found != [expected] or not dialect.is_foreign(source.parse(text, "ours.yaml").data)
    }
    theirs = [GOOD, *cases.THEIRS_WITHOUT_FALSIFIERS]
    missed = [text for text in theirs if not dialect.is_foreign(source.parse(text, "x").data)]
    ours = [text for text in cases.NOT_THEIRS if dialect.is_foreign(source.parse(text, "x").data)]
    ours += [path for path in Path("contracts").glob("*.yaml") if is_refused(path)]
    observe("misread_forms", len(misread))
    observe("unrecognised", len(missed))
    observe("mistaken_for_theirs", len(ours))
    observe("forms", len(FORMS))
    assert not misread and not missed and not ours, (misread, missed, ours)


PARTS = ("id", "rule", "prediction", "test", "if_fails")


def is_refused(path: Path) -> bool:
    try:
        contract.load(path)
    except ContractError:
        return True
    return False


@pytest.mark.falsifies("TOLLENS-DIALECT-002")
def test_each_finding_stands_where_its_cause_does(project, monkeypatch, observe):
    def said(text: str) -> list[dict]:
        project.write(HERE, "").write_text(text)
        return tollens(monkeypatch, project.root, "check", "--format", "json").json["findings"]

    before = {(each["rule"], each["key"], each["severity"]) for each in said(GOOD)}
    expected = {("prose", f"falsification_tests[{i}].id", "warning") for i in range(len(IDS))}
    missed = [edit for edit in EDITS if not is_pinpointed(edit, said(replaced(edit)))]
    noisy = [
        old
        for old, new in cases.UNSAID
        for found in [said(GOOD.replace(old, new, 1))]
        if {(each["rule"], each["key"], each["severity"]) for each in found} != before
    ]
    observe("unexpected_of_a_good_one", len(before ^ expected))
    observe("misplaced_findings", len(missed))
    observe("unknown_keys_told_of", len(noisy))
    observe("edits", len(EDITS))
    assert before == expected and not missed and not noisy, (before, missed, noisy)


def replaced(edit: Edit) -> str:
    assert GOOD.count(edit.old) == 1, edit
    return GOOD.replace(edit.old, edit.new)


def is_pinpointed(edit: Edit, findings: list[dict]) -> bool:
    text = replaced(edit)
    line = 1 + text[: text.index(edit.at)].count("\n")
    return any(
        each["path"] == HERE
        and (each["line"], each["key"], each["severity"]) == (line, edit.key, edit.severity)
        and edit.found in each["found"]
        and each["rule"] in ("yaml", "dialect", "prose")
        for each in findings
    )


@pytest.mark.falsifies("TOLLENS-DIALECT-003")
def test_prose_is_shown_as_unbound_and_never_passes(project, monkeypatch, observe):
    project.contract({"F-HOLDS": {}})
    project.write("falsifiers/test_sample.py", MARKS + HOLDS)
    bound = MARKS + f'@mark.falsifies("{IDS[0]}")\ndef test_prose():\n    pass\n'
    said = {
        "check": tollens(monkeypatch, project.root, "check", HERE),
        "status": tollens(monkeypatch, project.root, "status"),
        "explain": tollens(monkeypatch, project.root, "explain", IDS[0]),
        "explain another": tollens(monkeypatch, project.root, "explain", IDS[1]),
    }
    seen = "\n".join(each.out for name, each in said.items() if name.startswith("explain"))
    unseen = [(name, "explain") for name in IDS if f"id: {name}" not in seen]
    unseen += [
        (name, command)
        for name in IDS
        for command in ("check", "status")
        if not re.search(rf"{name} unbound", said[command].text)
    ]
    alone = project.pytester.runpytest_inprocess("--contract", HERE, "--record=never")
    refusal = " ".join(" ".join(alone.errlines).split())
    told = [each for each in (f"`tollens import {HERE}`", dialect.NAME) if each not in refusal]
    beside = project.run("--record=never")
    project.write("falsifiers/test_prose.py", bound)
    marked = project.run("--record=never")
    reported = tollens(monkeypatch, project.root, "report", "--format", "markdown")
    graph = tollens(monkeypatch, project.root, "graph")
    counted = rf"1 contract\(s\) in the {dialect.NAME} dialect with {len(IDS)} unbound"
    pages = {"report": reported.out, "graph": graph.err}  # the graph itself goes to programs
    unseen += [("all", name) for name, text in pages.items() if not re.search(counted, text)]
    rows = "".join(rf"{name} NOT_RUN unbound.*" for name in IDS)
    unseen += [(each.code, "table") for each in (beside, marked) if not re.search(rows, each.text)]
    observe("unseen_falsifiers", len(unseen))
    observe("passes", [alone.ret, beside.code, marked.code].count(0))
    observe("passes", int("0 of 2 corroborated" not in said["status"].out))
    observe("untold_remedies", len(told))
    observe("denominator_tells", "1 of 3 corroborated, 2 not run" in beside.text)
    assert not unseen and not told, (unseen, told, refusal)


@pytest.mark.falsifies("TOLLENS-DIALECT-004")
def test_an_import_drops_nothing_in_silence(observe, monkeypatch):
    lost: list[object] = []
    invalid: list[object] = []
    documents: list[int] = []

    @settings(THOROUGH, max_examples=80)
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        drawn = cases.document(data)
        text = json.dumps(drawn, ensure_ascii=False) if len(documents) % 4 else dumped(drawn)
        foreign = read(text)
        imported = importing.convert(foreign, "scale-v1", ["small.part"], [])
        ours = source.parse(imported.text("s.json"), "scale-v1.yaml")
        told = "\n".join(map(str, cases.leaves(ours.data)))
        told += "\n".join(note.became for note in imported.left_out)
        lost.extend(leaf for leaf in cases.leaves(drawn) if cases.as_text(leaf) not in told)
        invalid.extend([] if is_valid(ours) else [drawn])
        documents.append(len(imported.left_out))

    compare()
    imported = importing.convert(read(GOOD), "scale-v1", ["small.part"], [])
    comments = [each for each in ("A kernel that", "by hand") if each not in imported.text("s")]
    observe("lost_values", len(lost))
    observe("values_that_only_the_list_has", sum(documents))
    observe("invalid_results", len(invalid))
    observe("lost_comments", len(comments))
    dropped, listed = without_texts(monkeypatch)
    observe("unlisted_losses", abs(len(dropped) - len(listed)))
    observe("losses", len(dropped))
    observe("documents", len(documents))
    assert not lost and not invalid and not comments, (lost[:3], invalid[:1], comments)


def without_texts(monkeypatch) -> tuple[list[object], list[importing.Note]]:
    """What an import that carries nothing as text drops, and what it says that it left out."""
    dropped: list[object] = []

    def nothing(value: object, key: str) -> list[str]:
        dropped.extend(cases.leaves(value))
        return []

    with monkeypatch.context() as patches:
        patches.setattr(importing, "_lines", nothing)
        return dropped, importing.convert(read(GOOD), "scale-v1", ["small.part"], []).left_out


def dumped(drawn: dict) -> str:
    return yaml.safe_dump(drawn, allow_unicode=True, sort_keys=False)


def is_valid(ours: source.Source) -> bool:
    try:
        contract.validate(Path("scale-v1.yaml"), ours)
    except ContractError as error:
        print(error)
        return False
    return True


BOUNDS = {
    "relative error <= 1e-7": ("relative_error", {"le": 1e-7}),
    "cosine ≥ 0.99": ("cosine", {"ge": 0.99}),
    "|fast(x) - plain(x)| < 8 ULP": ("fast_x_plain_x", {"lt": 8.0, "unit": "ULP"}),
    "noise < 5%": ("noise", {"lt": 5.0, "unit": "%"}),
    "decode > 150 tok/s.": ("decode", {"gt": 150.0, "unit": "tok/s"}),
}
NO_BOUNDS = [
    *(
        "v >= 0 for all t",
        "1 <= x <= 2",
        "loss at 100 < loss at 0",
        "ratio in [0.5, 2.0]",
        "exit 0",
        "a word " * 9_000,
    ),
    *("error < 1e-6 and rate > 2", "a: b < 2", "< 3", "x >= 0 unless y", "for T > 0", "", "x = 3"),
]


@pytest.mark.falsifies("TOLLENS-DIALECT-005")
def test_an_import_guesses_nothing(observe):
    imported = importing.convert(read(GOOD), "scale-v1", ["small.part"], []).data
    kept = [each["id"] for each in imported["falsifiers"]]
    guessed = [
        text
        for text, expected in [*BOUNDS.items(), *((each, None) for each in NO_BOUNDS)]
        if measures_of(text) != (dict([expected]) if expected else importing.PLACEHOLDER)
    ]
    misordered = [form for form, entries in HISTORIES.items() if order_of(entries) != "abc"]
    observe("renamed_ids", len(set(IDS) ^ set(kept)))
    observe("guessed_bounds", len(guessed))
    observe("misordered_histories", len(misordered))
    observe("typed_history_kept_as_ours", "status_history" in imported)
    observe("gate_requires_all", imported["gates"][0]["requires"] == IDS)
    assert not guessed and not misordered, (guessed, misordered)


def measures_of(prediction: str) -> object:
    edited = GOOD.replace("relative error <= 1e-7", json.dumps(prediction))
    data = importing.convert(read(edited), "scale-v1", ["small.part"], []).data
    return data["falsifiers"][1]["measures"]


DAYS = {"a": "2026-01-02", "b": "2026-03-04", "c": "2026-03-05"}
NEWEST_FIRST = [{"date": day, "summary": name} for name, day in sorted(DAYS.items(), reverse=True)]
SAME_DAY = [
    {"date": "2026-01-02", "from": "PROPOSED", "to": "ACTIVE", "note": "c"},
    {"date": "2026-01-02", "from": "DRAFT", "to": "PROPOSED", "note": "b"},
    {"date": "2026-01-02", "from": "NEW", "to": "DRAFT", "note": "a"},
]
HISTORIES = {
    "newest first": NEWEST_FIRST,
    "oldest first": NEWEST_FIRST[::-1],
    "mixed": [NEWEST_FIRST[1], NEWEST_FIRST[2], NEWEST_FIRST[0]],
    "newest first on one day": SAME_DAY,
    "oldest first on one day": SAME_DAY[::-1],
    "newest version first": [
        {"version": f"1.{n}.0", "date": "2026-01-02", "pr": n, "summary": name}
        for n, name in [(11, "c"), (10, "b"), (9, "a")]
    ],
    "without dates": [{"note": name} for name in "abc"],
}


def order_of(entries: list[dict]) -> str:
    """The names of the entries in the order in which an import tells of them."""
    head = GOOD.partition("status_history")[0]
    foreign = read(f"{head}status_history: {json.dumps(entries)}\n")
    told = importing.convert(foreign, "scale-v1", ["small.part"], []).data["description"]
    return "".join(
        re.findall(r"^status_history\[\d\]\.(?:summary|note): (\w)$", told, re.MULTILINE)
    )


@pytest.mark.falsifies("TOLLENS-DIALECT-006")
def test_the_command_says_what_it_did_and_overwrites_nothing(project, monkeypatch, observe):
    def run(*arguments: str):
        return tollens(monkeypatch, project.root, "import", *arguments)

    project.write("their/scale-v1.yaml", GOOD)
    project.write("their/broken-v1.yaml", GOOD.replace("SCALE-002", "SCALE-001"))
    project.write("their/empty-v1.yaml", "metadata: {version: 1.0.0}\n")
    ours, new = project.root / HERE, "contracts/new-v1.yaml"
    exits = [
        (run("their/scale-v1.yaml"), 2),
        (run("their/scale-v1.yaml", "--out", new), 0),
        (run("their/broken-v1.yaml"), 1),
        (run("their/empty-v1.yaml"), 1),
        (run("their/absent-v1.yaml"), 2),
        (run("their/scale-v1.yaml", "-o", "fresh/new-v1.yaml", "--subject", " "), 1),
        (run(new, "-o", "contracts/newer-v1.yaml"), 2),
        (run("their/scale-v1.yaml", "-o", "contracts/Bad_Name.yaml"), 2),
        (run(HERE, "-o", HERE, "--force"), 2),
    ]
    untouched = ours.read_text() == GOOD
    told = run("their/scale-v1.yaml", "--force", "--format", "json")
    exits.append((told, 0))
    shown = [ran for ran, _ in exits[:-1]]
    shown += [tollens(monkeypatch, project.root, each) for each in ("check", "status")]
    wide = [line for ran in shown for line in ran.out.splitlines() if len(line) > 80]
    checked = tollens(monkeypatch, project.root, "check", HERE, "--format", "json").json["findings"]
    wrong = [(ran.out, ran.err, code) for ran, code in exits if ran.code != code]
    keys = {note["key"] for note in told.json["as_text"]}
    untold = {"proof_obligations", "kani_harnesses", "status_history", "grades"} - keys
    written = {path.name for path in (project.root / "contracts").glob("*.yaml")}
    observe("wrong_exits", len(wrong))
    observe("overwritten_files", int(not untouched))
    refused = (project.root / "fresh").exists()
    observe("unexpected_files", len(written ^ {"scale-v1.yaml", "new-v1.yaml"}) + refused)
    observe("unexpected_rules", len({each["rule"] for each in checked} ^ EXPECTED))
    observe("untold_keys", len(untold))
    observe("wide_lines", len(wide))
    observe("left_unbound", told.json["unbound"] == IDS)
    assert not wrong and not wide and not untold, (wrong, wide, untold)


EXPECTED = {"unbound", "no-saboteur", "no-evidence"}
