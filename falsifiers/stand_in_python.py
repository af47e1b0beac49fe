"""A host's Python whose `engine distill` is quick; in everything else it is the real one.

Run as a script, by the standard library alone, with its folder first: `names` there says what
hyperparameters are, `unknown` which options this version does not know, `held` that a run waits
after its second step, `fails` that it ends there, `broken` that it ends before it begins, `old`
that this version knows of no seed, `mute` that it gives no account; `calls` is what it was asked
to do, `said` its last account. It sees no GPU.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

PLAN = ("teacher", "student", "data", "device", "teacher_device", "route", "sharding")


def main(folder: Path, arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "torch.distributed.run"]:
        at = arguments.index("-m", 2)
        note(folder, f"torchrun {' '.join(arguments[2:at])}")
        arguments = arguments[at:]
    if arguments[:2] == ["-m", "venv"]:
        note(folder, "venv")
        made = Path(arguments[-1]) / "bin/python"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.unlink(missing_ok=True)
        made.symlink_to(folder / "python")
    elif arguments[:2] == ["-m", "pip"]:
        note(folder, "pip")
    elif arguments[:3] == ["-m", "engine", "distill"]:
        distill(folder, parsed(arguments[3:]))
    else:
        os.execv(sys.executable, [sys.executable, *arguments])


def note(folder: Path, call: str) -> None:
    with (folder / "calls").open("a") as file:
        file.write(f"{call}\n")


def parsed(arguments: list[str]) -> dict[str, str]:
    """Options and what follows them."""
    options, name = {}, ""
    for each in arguments:
        if each.startswith("--"):
            name = each[2:].replace("-", "_")
            options[name] = ""
        else:
            options[name] = each
    return options


def distill(folder: Path, options: dict[str, str]) -> None:
    unknown = set((folder / "unknown").read_text().split()) & options.keys()
    if unknown:
        sys.exit(f"No such option: --{unknown.pop()}")
    if "resume" in options:
        place = Path(options["resume"])
        options["out"], found = str(place), json.loads((place / "dispatch.json").read_text())
        found["plan"] |= {name: options[name] for name in PLAN if name in options}
    else:
        found = account(folder, options)
    note(folder, "dry run" if "dry_run" in options else "run")
    if (folder / "broken").exists() and "dry_run" not in options:
        sys.exit("found no module named torch")
    if "dry_run" in options:
        if found["plan"]["device"] != "cpu":
            sys.exit("error: --device: found no GPU")
        (folder / "said").write_text(json.dumps(found))
        print("hello" if (folder / "mute").exists() else json.dumps(found))
    else:
        run(folder, Path(options["out"]), found["plan"]["recipe"]["steps"], found)


def account(folder: Path, options: dict[str, str]) -> dict:
    """What `distill` says of a run before it begins."""
    names = json.loads((folder / "names").read_text())
    unheard = ["seed"] if (folder / "old").exists() else []
    recipe = {n: number(options[n]) for n in names if n in options and n not in unheard}
    plan = {name: options[name] for name in PLAN} | {
        "recipe": recipe,
        "ahead": int(options["ahead"]),
    }
    plan["allow_mirror"] = "allow_mirror" in options
    found = {"schema": "engine/distill/dispatch/v1", "plan": plan, "parameters": 1000}
    digests = {name: f"of {options[name]}" for name in ("teacher", "student", "data")}
    versions = {"torch": "2", "python": platform.python_version()}
    return found | {"mirror": False, "digests": digests, "versions": versions}


def number(text: str) -> object:
    return json.loads(text) if text[0].isdigit() else text


def run(folder: Path, place: Path, steps: int, found: dict) -> None:
    """Rows as training writes them; the first and the last step are judged."""
    (place / "dispatch.json").write_text(json.dumps(found))
    with (place / "metrics.jsonl").open("w", buffering=1) as file:
        for step in range(steps + 1):
            while step > 2 and (folder / "held").exists():
                time.sleep(0.01)
            if (folder / "fails").exists() and step > 2:
                sys.exit("the disk is full")
            rows = [{"step": step, "loss": 4.0, "tokens": 8, "seconds": 0.01}] if step else []
            rows += [{"step": step, "heldout_loss": 4 - step / steps}] * (step in (0, steps))
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
    (place / "best").mkdir()
    (place / "best/model.safetensors").write_bytes(b"WEIGHTS" * 1000)
    print("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
