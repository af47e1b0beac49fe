"""Planted faults in evidence, freshness and status (contracts/tollens-evidence-v1)."""

import hashlib
import json
import math

from tollens.errors import EvidenceError
from tollens.evidence import Evidence
from tollens.verdicts import Kill, Level, Verdict


def evidence_digest_unchecked(plant):
    """A file is taken for whole if it has the right shape."""

    def trusting(parse):
        def replacement(data, shown):
            try:
                return Evidence.model_validate(json.loads(data))
            except (ValueError, RecursionError) as error:
                raise EvidenceError(shown) from error

        return replacement

    plant("tollens.evidence.parse", trusting)


def evidence_reformatted_accepted(plant):
    """A file is verified by what it says, whatever its bytes."""

    def by_content(parse):
        def replacement(data, shown):
            try:
                text = json.dumps(json.loads(data), indent=2, sort_keys=True, ensure_ascii=False)
                return parse(f"{text}\n".encode(), shown)
            except (ValueError, RecursionError) as error:
                raise EvidenceError(shown) from error

        return replacement

    plant("tollens.evidence.parse", by_content)


def evidence_keys_unsorted(plant):
    """Keys are written in the order of the models."""

    def unsorted(canonical):
        def replacement(document):
            return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

        return replacement

    plant("tollens.evidence._canonical", unsorted)


def evidence_floats_rounded(plant):
    """Measures are written with twelve significant digits."""

    def rounded(jsonable):
        def replacement(value):
            finite = isinstance(value, float) and math.isfinite(value)
            return float(f"{value:.12g}") if finite else jsonable(value)

        return replacement

    plant("tollens.evidence._jsonable", rounded)


def evidence_schema_unchecked(plant):
    """Nobody looks whether what is written or read has its schema."""
    plant("tollens.evidence._check_schema", lambda check: lambda document, shown: None)


def evidence_imports_ignored(plant):
    """Only the subject's own file is digested, not what it imports."""
    plant("tollens.digests.Sources.imports", lambda imports: lambda sources, path: [])


def evidence_test_ignored(plant):
    """The test's source is not digested."""
    plant("tollens.digests.Sources.test", lambda test: lambda *args: set())


def evidence_claim_ignored(plant):
    """Evidence of another claim counts while test and subject are the same."""

    def two_of_three(same):
        return lambda recorded, other: (
            (recorded.subject, recorded.test)
            == (
                other.subject,
                other.test,
            )
        )

    plant("tollens.evidence.ClaimDigests.same", two_of_three)


def evidence_line_ends_count(plant):
    """A file is digested with the line ends of this checkout."""

    def raw(sha256):
        def replacement(sources, path):
            return hashlib.sha256((sources.project.root / path).read_bytes()).hexdigest()

        return replacement

    plant("tollens.digests.Sources.sha256", raw)


def evidence_whole_package_counts(plant):
    """Every module of the project is taken for a part of the subject."""

    def everything(subject):
        def replacement(sources, contract):
            root = sources.project.root
            return {path.relative_to(root).as_posix() for path in root.rglob("*.py")}

        return replacement

    plant("tollens.digests.Sources.subject", everything)


def evidence_every_commit_counts(plant):
    """All commits since the recording are counted, whatever they touched."""

    def all_commits(commits_ago):
        return lambda root, commit, files: commits_ago(root, commit, ["."])

    plant("tollens.standing._commits_ago", all_commits)


def evidence_others_dropped(plant):
    """A run's evidence holds what that run said, and nothing else."""
    plant(
        "tollens.history.merge",
        lambda merge: lambda old, new, previous: merge(None, new, previous),
    )


def evidence_blocked_overwrites(plant):
    """A blocked result counts for as much as one that was executed."""
    plant("tollens.history._was_executed", lambda executed: lambda falsifier, results: False)


def evidence_blocker_stays(plant):
    """A blocked result stays when the test has run at another level."""
    plant("tollens.history._superseded", lambda superseded: lambda old, new: False)


def evidence_levels_mixed(plant):
    """A run at one level overwrites the result of another."""
    plant("tollens.evidence.Result.key", lambda key: lambda result: (result.falsifier, "any"))


def evidence_survivor_forgiven(plant):
    """A corroboration stands though a saboteur survived."""
    plant(
        "tollens.history._vacuous_if_survived",
        lambda vacuous: lambda result, severity: result,
    )


def evidence_survivor_discharges(plant):
    """A falsifier is discharged whatever became of its saboteurs."""

    def unproven(discharge):
        return lambda results, required, kills: discharge(results, required, [Kill.KILLED])

    plant("tollens.verdicts.discharge", unproven)


def evidence_any_level_discharges(plant):
    """A falsifier is discharged below the level that it requires."""

    def undemanding(discharge):
        return lambda results, required, kills: discharge(results, Level.ALGORITHM, kills)

    plant("tollens.verdicts.discharge", undemanding)


def evidence_falsified_outvoted(plant):
    """A refutation at one level is outweighed by a corroboration at another."""

    def outvoted(discharge):
        def replacement(results, required, kills):
            if Verdict.CORROBORATED in results.values():
                kept = results.items()
                results = {at: each for at, each in kept if each is not Verdict.FALSIFIED}
            return discharge(results, required, kills)

        return replacement

    plant("tollens.verdicts.discharge", outvoted)


def evidence_partial_is_active(plant):
    """A falsifier that is not corroborated does not keep a contract from being active."""

    def lenient(holds_at):
        return lambda at, discharge, reached, required: (
            reached is None or holds_at(at, discharge, reached, required)
        )

    plant("tollens.verdicts._holds_at", lenient)


def evidence_active_by_requirement(plant):
    """A falsifier that asks for a lower level holds at any, discharged or not."""

    def unearned(holds_at):
        return lambda at, discharge, reached, required: (
            reached is not None and (reached.rank >= at.rank or required.rank < at.rank)
        )

    plant("tollens.verdicts._holds_at", unearned)
