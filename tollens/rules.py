"""The rules that `tollens check` applies, in one table: what each says, and what to do."""

from __future__ import annotations

RULES: dict[str, tuple[str, str]] = {
    "yaml": (
        "A contract is plain YAML: UTF-8, one document; no duplicate keys, aliases, tags, tabs.",
        "Correct the line; write out what an alias stood for.",
    ),
    "schema": (
        "The contract has the keys, types and references of the published JSON Schema.",
        "Point the editor at the schema with the modeline; `tollens schema` prints it.",
    ),
    "dialect": (
        "A contract in the provable-contracts dialect is whole in that dialect.",
        "Correct it there, or run `tollens import CONTRACT` and write what is missing.",
    ),
    "prose": (
        "What only prose states is bound to no test and is never a pass.",
        "Run `tollens import CONTRACT`, then write a test that measures.",
    ),
    "modeline": (
        "The first line points editors at the schema, and a path in it at a file that is there.",
        "Start with `# yaml-language-server: $schema=<path of contract.schema.json>`.",
    ),
    "subject": (
        "Each subject is a module or file of the project, so that its source can be digested.",
        "Name a module by its dotted name, or a file by its path below the root.",
    ),
    "unbound": (
        "Each falsifier is bound to a test by `@pytest.mark.falsifies`.",
        "Write the test; a claim that nothing can refute is no claim.",
    ),
    "dangling": (
        "Each `falsifies` mark names a falsifier that a contract declares.",
        "Correct the id, or declare the falsifier.",
    ),
    "no-saboteur": (
        "Each falsifier lists at least one saboteur: it must show that it can fail.",
        "Plant a fault that a good engineer would fear and list it under `kills`.",
    ),
    "saboteur": (
        "Each saboteur that a contract lists is defined once, and documented.",
        "Define `def name_with_underscores(plant):` in the saboteurs folder, with a docstring.",
    ),
    "unused-saboteur": (
        "Each saboteur is listed by a falsifier that must kill it.",
        "List it under `kills`, or remove it.",
    ),
    "moved-claims": (
        "Claims that were recorded under a version do not change under it.",
        "Raise the version; `tollens diff` names the bump that the change needs.",
    ),
    "evidence": (
        "An evidence file has its schema, its own digest and its attachments.",
        "Restore it from git, or record it again.",
    ),
    "no-evidence": (
        "Each falsifier has evidence.",
        "Run `pytest --contract CONTRACT` and commit what it writes.",
    ),
    "stale": (
        "Evidence holds for the claim, the test and the subject that it was recorded with.",
        "Run `pytest --contract CONTRACT` again and commit what it writes.",
    ),
    "unproven": (
        "Each saboteur has been killed by the test and the subject as they stand.",
        "Run `pytest --contract CONTRACT --sabotage` and commit what it writes.",
    ),
    "refuted": (
        "The fresh evidence corroborates: nothing is falsified, vacuous, inconclusive or in error.",
        "Read the reason in the evidence; `tollens explain ID` shows it.",
    ),
    "blocker-gone": (
        "A falsifier recorded as blocked is still blocked.",
        "Its need is met now: run it and commit what it writes.",
    ),
    "history": (
        "Each entry starts where the one before ended, and the last one follows from the evidence.",
        "Do not edit the history; restore it from git, or record again.",
    ),
    "orphan": (
        "Each evidence file belongs to a contract.",
        "Remove the folder of a contract that is gone.",
    ),
    "baseline": (
        "Each accepted finding is still found, has a reason, and is not past its day.",
        "Mend it; fill in the reason; or take out what is gone with `--baseline FILE --update`.",
    ),
}
