"""One project with everything that a reviewer has to see, built once in a process and read only.

Its files are written, recorded and committed by the steps below, which say what each part is for;
the tests know them by name. `BASE` tags the commit that a pull request is compared with.
"""

import atexit
import base64
import functools
import json
import shutil
import tempfile
from pathlib import Path

from falsifiers.reviewed_project import RUN, ReviewedProject, Said, made
from tollens.evidence import Host
from tollens.verdicts import Kill, Verdict

BASE = "base"
HOSTILE = '<script>document.title="run"</script><img src=x onerror=alert(1)>"\'`` @all [a](b) **c**'
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
BINARY = b"\x00\x01" * 40
LIMITS = {"error": {"le": 1}, "count": {"ge": 10}, "share": {"between": [0.25, 0.75]}}
HELD = {"error": 0.25, "count": 40, "share": 0.5}
KILLED, FIRST, SECOND = Kill.KILLED, "2026-01-05T00:00:00Z", "2026-02-06T00:00:00Z"


PROSE = "metadata: {version: 1.0.0}\nfalsification_tests:\n  - {id: F-PROSE-001, rule: r}\n"


def marked(place):
    """A hostile text that is known again by the place where it was put."""
    return f"{place} {HOSTILE}"


HOSTILE_PLACES = (
    *("title", "rule", "prediction", "if_fails", "reason", "unit", "host", "command", "attached"),
)


def claim(name, kills=("fault",), **more):
    plain = {"rule": f"the rule of {name}", "prediction": "p", "measures": LIMITS}
    return {"id": name, **plain, "kills": list(kills), **more}


MIXED = [
    claim("F-HELD-001"),
    claim("F-BROKEN-001"),
    claim("F-SURVIVED-001", ["fault", "other-fault"]),
    claim("F-BLOCKED-001", needs=[{"env": "TOLLENS_NOT_SET"}]),
    claim("F-GONE-001", needs=[{"module": "json"}]),
]
ODD = claim("F-ODD-001", rule=marked("rule"), prediction=marked("prediction"))
ODD |= {"if_fails": marked("if_fails")}
ODD["measures"] = {"error": {"le": 1, "unit": marked("unit")}}
CHANGED = [claim(f"F-CHANGED-00{i}", ["fault", "other-fault"]) for i in range(1, 5)]
CONTRACTS = {
    "sound-v1": {"falsifiers": [claim("F-SOUND-001")], "depends_on": ["mixed-v1"]},
    "mixed-v1": {"falsifiers": MIXED},
    "odd-v1": {"falsifiers": [ODD], "title": marked("title")},
    "stale-v1": {"falsifiers": [claim("F-STALE-001")], "subject": ["small.other"]},
    "spoilt-v1": {"falsifiers": [claim("F-SPOILT-001")]},
    "changed-v1": {"falsifiers": CHANGED},
    "new-v1": {"falsifiers": [claim("F-NEW-001")]},  # without evidence and history
    "quiet-v1": {"falsifiers": [claim("F-QUIET-001")]},
    "removed-v1": {"falsifiers": [claim("F-REMOVED-001"), claim("F-REMOVED-002")]},
}


def run_at(start, **more):
    host = RUN.host.model_copy(update={"cpu": "A named processor"})
    return RUN.model_copy(update={"start": start, "host": host, **more})


def held(names, values=HELD, kills=("fault",)):
    return {name: Said(values=values, fates=dict.fromkeys(kills, KILLED)) for name in names}


def loosened(measures=LIMITS):
    return {**measures, "error": {"le": 2}}


@functools.cache
def reviewed() -> ReviewedProject:
    """The project, with all that is named above recorded and changed."""
    folder = Path(tempfile.mkdtemp(prefix="reviewed-"))
    atexit.register(shutil.rmtree, folder, True)
    project = made(folder, CONTRACTS)
    project.write("small/other.py", "def run():\n    return 1\n")
    _first(project)
    project.write("evidence/sound-v1/attachments/notes.yaml", "no: [contract\n")
    project.write("contracts/prose-v1.yaml", PROSE)
    project.commit("first")
    project.git("tag", BASE)
    _second(project)
    project.commit("second")
    _since(project)
    return project


def _first(project):
    run = run_at(FIRST)
    for name in ("sound-v1", "stale-v1", "spoilt-v1", "quiet-v1", "removed-v1"):
        project.say(name, held([each["id"] for each in CONTRACTS[name]["falsifiers"]]), run)
    both = ("fault", "other-fault")
    project.say("mixed-v1", held(["F-HELD-001", "F-BROKEN-001", "F-SURVIVED-001"], HELD, both), run)
    names = [each["id"] for each in CHANGED]
    project.say("changed-v1", held(names, HELD, both), run)
    odd = run.model_copy(
        update={
            "command": marked("command"),
            "host": Host(**{**run.host.model_dump(), "cpu": marked("host")}),
        }
    )
    files = (("note.txt", marked("attached").encode()), ("dot.png", PICTURE), ("raw.bin", BINARY))
    said = Said(Verdict.FALSIFIED, {"error": 3}, marked("reason"), {"fault": KILLED})
    project.say("odd-v1", {"F-ODD-001": Said(**{**vars(said), "attachments": files})}, odd)


def _second(project):
    run = run_at(SECOND)
    moved = {"error": 0.75, "count": 40, "share": 0.5}
    project.say("sound-v1", held(["F-SOUND-001"], moved), run, always=True)
    mixed = {
        "F-HELD-001": Said(values=HELD, fates={"fault": KILLED}),
        "F-BROKEN-001": Said(
            Verdict.FALSIFIED, {"error": 0.25, "count": 3, "share": 0.9}, "count is 3"
        ),
        "F-SURVIVED-001": Said(values=HELD, fates={"fault": KILLED, "other-fault": Kill.SURVIVED}),
        "F-BLOCKED-001": Said(Verdict.BLOCKED, reason="needs env TOLLENS_NOT_SET"),
        "F-GONE-001": Said(Verdict.BLOCKED, reason="needs module json"),
    }
    project.say("mixed-v1", mixed, run)


def _since(project):
    """What a pull request changes: the bar is lowered in six ways, once in silence."""
    claims = json.loads(json.dumps(CHANGED))
    claims[0]["measures"] = loosened()
    claims[1]["kills"] = ["fault"]
    del claims[2]
    claims.append(claim("F-CHANGED-005"))
    changed = {"version": "2.0.0", "falsifiers": claims}
    quiet = {"version": "1.0.1", "falsifiers": [claim("F-QUIET-001", measures=loosened())]}
    given = {**CONTRACTS, "changed-v1": changed, "quiet-v1": quiet}
    del given["removed-v1"]
    for name in ("changed-v1", "quiet-v1"):
        _keep_history(project, name, given[name])
    gone = ("contracts/removed-v1.yaml", "falsifiers/test_removed.py", "contracts/prose-v1.yaml")
    for path in gone:
        (project.root / path).unlink()
    project.say("changed-v1", held(["F-CHANGED-001", "F-CHANGED-005"]), run_at(SECOND))
    project.write("small/other.py", "def run():\n    return 2\n")
    spoilt = project.root / "evidence/spoilt-v1/evidence.json"
    spoilt.write_text(spoilt.read_text().replace("0.25", "0.35", 1))


def _keep_history(project, name, keys):
    path = project.root / f"contracts/{name}.yaml"
    text = path.read_text()
    history = text[text.index("status_history:") :]
    project.state(name, keys)
    path.write_text(path.read_text() + history)
