"""Tries to refute how two versions of a contract are compared.

Oracles: for a loosened bound, a value that only the new one admits; for any other change, the edit
that made it and the bump that Semantic Versioning asks for.
"""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from falsifiers.bad_contracts import GOOD
from falsifiers.bound_oracle import admits
from falsifiers.documents import FULL, changed
from falsifiers.harness_command import command  # noqa: F401
from falsifiers.report_cases import BASE, reviewed
from falsifiers.thorough import THOROUGH
from tollens import difference, source
from tollens.contract import Contract
from tollens.difference import Bump

LIMITED = [-1.0, 0.0, 0.5, 1.0, 1.0000001, 2.0]
ENDS = st.sampled_from(LIMITED)
INTERVALS = st.tuples(st.sampled_from(["le", "lt", "ge", "gt"]), ENDS).map(
    lambda bound: {bound[0]: bound[1]}
) | st.lists(ENDS, min_size=2, max_size=2).map(lambda ends: {"between": sorted(ends)})
PROBES = [end + step for end in LIMITED for step in (-1e-9, 0.0, 1e-9)]


@pytest.mark.falsifies("TOLLENS-DIFFERENCE-001")
def test_a_bound_is_loosened_where_it_admits_a_value_that_it_refused(observe):
    wrong: list[object] = []

    @THOROUGH
    @given(INTERVALS, INTERVALS)
    def compare(old: dict, new: dict) -> None:
        found = difference.needed(difference.compare(spoiled(old), spoiled(new)))
        if found is not expected_bump(old, new):
            wrong.append((old, new, found))

    compare()
    observe("misjudged_bounds", len(wrong))
    assert not wrong, wrong[0]


def spoiled(bound: dict) -> Contract:
    at = ("falsifiers", 0, "measures", "error")
    return Contract.model_validate(changed(FULL, at, lambda value: bound))


def expected_bump(old: dict, new: dict) -> Bump:
    if any(admits(new, value) and not admits(old, value) for value in PROBES):
        return Bump.MAJOR
    tighter = any(admits(old, value) and not admits(new, value) for value in PROBES)
    return Bump.MINOR if tighter or old != new else Bump.NONE


ANOTHER = "{id: F-N-1, rule: r, prediction: p, measures: {a: {le: 1}}}"
PATCHES = [  # edits of GOOD
    *[("title: A", "title: The"), ("rule: first", "rule: 1st"), ("is small", "is tiny")],
    *[("y = x", "y = 2 x"), ("{formula: y = x}", "{formula: y = x}\n  more: {formula: z}")],
]
MINORS = [
    ("      span:", "      more: {ge: 0}\n      span:"),
    ("[some-fault]", "[some-fault, another]"),
    ("\ngates:", f"  - {ANOTHER}\n\ngates:"),
    ("rule: second", "rule: second\n    freshness: strict\n    level: runtime"),
    ("rule: second", "rule: second\n    freshness: strict"),
    ("requires: [F-BAD-001]", "requires: [F-BAD-001, F-BAD-002]"),
    ("[small.part]", "[small.part, small.other]"),
]
MAJORS = [
    ("requires: [F-BAD-001]", "requires: [F-BAD-002]"),
    *[("[small.part]", "[small.other]"), ("depends_on: []", "depends_on: [other-v1]")],
    *[("      span: {between: [1, 2]}\n", ""), ("span:", "width:")],
    *[("[some-fault]", "[]"), ("[some-fault]", "[another]")],
    *[("env: HOME", "env: PATH"), ("[{env: HOME}]", "[{env: HOME}, {env: PATH}]")],
    *[("0.95", "0.9"), ("0.95", "0.99"), (", confidence: 0.95", "")],
    *[("{le: 1.0}", "{le: 1.0, unit: s}"), ("{le: 1.0}", "{eq: 1.0}")],
    *[("rule: second", "rule: second\n    freshness: warn"), ("ing: true", "ing: false")],
]
NONE = [("\n", "\n# a comment\n"), ("version: 1.0.0", "version: 2.0.0")]
CHANGES = {Bump.PATCH: PATCHES, Bump.MINOR: MINORS, Bump.MAJOR: MAJORS, Bump.NONE: NONE}
GIVEN = {
    Bump.NONE: [("1.0.0", "1.0.0"), ("1.0.0", "0.9.9"), ("10.0.0", "9.9.9")],
    Bump.PATCH: [("1.2.3", "1.2.4"), ("0.0.9", "0.0.10")],
    Bump.MINOR: [("1.2.3", "1.3.0"), ("1.9.0", "1.10.0")],
    Bump.MAJOR: [("1.9.9", "2.0.0"), ("9.0.0", "10.0.0")],
}


@pytest.mark.falsifies("TOLLENS-DIFFERENCE-002")
def test_each_change_of_the_claims_is_seen_and_needs_its_bump(observe):
    good = Contract.model_validate(yaml.safe_load(GOOD))
    wrong = [
        (bump, edit, found)
        for bump, edits in CHANGES.items()
        for edit in edits
        for found in [difference.needed(difference.compare(good, edited(*edit)))]
        if found is not bump
    ]
    swapped = good.model_copy(update={"falsifiers": good.falsifiers[::-1]})
    unseen = difference.needed(difference.compare(good, swapped)) is Bump.NONE
    misread = [
        pair
        for bump, pairs in GIVEN.items()
        for pair in pairs
        if difference.given(*map(with_version, pair)) is not bump
    ]
    observe("misjudged_changes", len(wrong))
    observe("unseen_reordering", unseen)
    observe("misread_versions", len(misread))
    assert not wrong and not unseen and not misread, (wrong, misread)


def edited(old: str, new: str) -> Contract:
    return Contract.model_validate(source.parse(GOOD.replace(old, new, 1), "x").data)


def with_version(version: str) -> Contract:
    return edited("1.0.0", version)


CALLS = {
    "changed-v1": (0, "needs major; the version 1.0.0 -> 2.0.0 gives major"),
    "quiet-v1": (1, "needs major; the version 1.0.0 -> 1.0.1 gives patch"),
    "mixed-v1": (0, "no claim changed"),
}
TOLD = (
    "F-CHANGED-003: falsifier removed",
    "loosened: ≤ 1 -> ≤ 2",
    "F-CHANGED-005: falsifier added",
)


@pytest.mark.falsifies("TOLLENS-DIFFERENCE-003")
def test_the_command_names_changes_and_the_bump(command, observe, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.chdir(reviewed().root)
    paths = {name: f"contracts/{name}.yaml" for name in CALLS}
    ran = {name: command("diff", f"{BASE}:{path}", path) for name, path in paths.items()}
    wrong = [each for name, each in ran.items() if each.code != CALLS[name][0]]
    untold = [name for name, each in ran.items() if CALLS[name][1] not in each.out]
    untold += [text for text in TOLD if text not in ran["changed-v1"].out]
    other = tmp_path / "changed-v1.yaml"
    subject = " ".join(["small.a_module_with_quite_a_name,"] * 6)
    text = (reviewed().root / paths["changed-v1"]).read_text()
    other.write_text(text.replace('["small.part"]', f"[{subject} small.part]"))
    lines = command("diff", paths["changed-v1"], other).out.splitlines()
    observe("wrong_exits", len(wrong))
    observe("untold_changes", len(untold))
    observe("wide_lines", sum(len(line) > 80 for line in lines))
    assert len(lines) > 2, lines
