"""A review of 100 contracts with 20 falsifiers each, and attachments larger than a page may be.

One contract is written and recorded, twice, and committed; the others are that one under other
names, so that what is tried is the drawing and not, again, the recording. Made once in a process.
"""

import atexit
import functools
import hashlib
import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from falsifiers.report_cases import HELD, KILLED, LIMITS, PICTURE, run_at
from falsifiers.reviewed_project import Said, made
from tollens.evidence import Attachment
from tollens.inspection import Inspection
from tollens.project import load_contracts
from tollens.review import review
from tollens.since import since
from tollens.verdicts import Verdict

CONTRACTS, EACH = 100, 20
FIRST = "area-number-000-v1"
SIZES = [len(PICTURE), *[40_000] * 6, *[200_000] * 3]  # of the attachments
SHARED = 60  # the contracts from the second to here show one picture


def renamed(name, i):
    return name.replace("000", f"{i:03}", 1)


IDS = [f"F-AREA-NUMBER-000-{j:03}" for j in range(100, 100 + EACH)]
FALSIFIERS = [renamed(name, i) for i in range(CONTRACTS) for name in IDS]


def claims():
    for name in IDS:
        yield {
            "id": name,
            "rule": f"what {name} says holds for every case that anybody has thought of so far",
            "prediction": "each measure keeps its bound over a thousand cases, as predicted",
            "measures": LIMITS,
            "kills": ["fault-of-area", f"another-fault-{name[-1]}"],
            "if_fails": "look at the first place where the two of them part from each other",
        }


def reproduce_line(name):
    """The command that runs one falsifier again."""
    _, _, _, number, own = name.split("-")
    test = f"falsifiers/test_area_n_{number}.py::test_f_area_n_{number}_{own}"
    return f"pytest --contract contracts/area-number-{number}-v1.yaml {test}"


@functools.cache
def large_review():
    """The project, the review of it and what is wrong with it."""
    folder = Path(tempfile.mkdtemp(prefix="large-"))
    atexit.register(shutil.rmtree, folder, True)
    written = made(folder, {FIRST: {"falsifiers": list(claims())}})
    for day in (5, 6):
        written.say(FIRST, said(day), run_at(f"2026-01-0{day}T00:00:00Z"), always=True)
        written.commit(f"day {day}")
    inspection = Inspection(written.project)
    given = load_contracts(written.project, written.project.contract_files()).loaded
    found = review(inspection, given)
    views = [copied(found.contracts[0], i, written.project) for i in range(CONTRACTS)]
    views.sort(key=lambda view: view.badness)
    found = replace(found, contracts=tuple(views))
    return written.project, found, since(written.project, found, "")


def said(day):
    """The first is refuted at length, the others hold."""
    random.seed(day)
    found = {
        name: Said(
            values={**HELD, "error": random.random()},
            fates={"fault-of-area": KILLED, f"another-fault-{name[-1]}": KILLED},
        )
        for name in IDS
    }
    found[IDS[0]] = Said(Verdict.FALSIFIED, {**HELD, "error": 7}, "because " * 300)
    return found


def copied(view, i, project):
    """The contract under its other name; one in ten is refuted, and has a picture."""
    kept = view.falsifiers if i % 10 == 0 else [view.falsifiers[-1], *view.falsifiers[1:]]
    ids = [renamed(name, i) for name in IDS]
    contract = view.loaded.contract.model_copy(update={"id": renamed(FIRST, i)})
    falsifiers = [
        _falsifier(each, name, i, _attachments(project, i) if name == ids[0] else [])
        for each, name in zip(kept, ids, strict=True)
    ]
    return replace(
        view, loaded=replace(view.loaded, contract=contract), falsifiers=tuple(falsifiers)
    )


def _falsifier(view, name, i, attachments):
    [result] = view.results
    told = {"falsifier": name, "reproduce": reproduce_line(name), "attachments": attachments}
    return replace(
        view,
        falsifier=view.falsifier.model_copy(update={"id": name}),
        results=(replace(result, result=result.result.model_copy(update=told)),),
        series={(name, *key[1:]): points for key, points in view.series.items()},
    )


def _attachments(project, i):
    if i % 10:
        return []
    seed = max(i, SHARED)
    data = random.Random(seed).randbytes(SIZES[seed // 10]) if i else PICTURE
    path = project.evidence_path(renamed(FIRST, i)).parent / "attachments" / f"curve-{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return [Attachment(name=path.name, path=f"attachments/{path.name}", sha256=sha256)]


def files_of(project):
    """sha256 → size of every attachment on disk."""
    paths = (project.root / project.evidence).glob("*/attachments/*")
    return {hashlib.sha256(p.read_bytes()).hexdigest(): p.stat().st_size for p in paths}
