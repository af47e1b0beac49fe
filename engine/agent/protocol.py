"""How a student acts: fenced blocks in its reply, and what it is told of each.

Knows text and a folder's files as a mapping; knows nothing of endpoints or verdicts. Files are
values here: no action but `run` touches a disk, and that one does so in the sandbox.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.agent.task import Task
from engine.evaluation.sandbox import Command, Left, is_inside

Files = Mapping[str, str]
Run = Callable[[Command], Left]
SHOWN = 4000  # characters of a file or an output that the student is shown
LARGEST = 1 << 18  # characters of a file that it may write
RULES = """\
You are a programmer. You work in a folder of files and act by fenced blocks in your reply. Write \
nothing but blocks and short remarks. The first line of a block says what it does:

```read path/to/file
```

```write path/to/file
the whole new content
```

```replace path/to/file
<<<<<<<
lines as they are now, exactly
=======
lines as they are to be
>>>>>>>
```

```run
python -m unittest
```

```done
```

`replace` needs lines that are there exactly once. `run` is a line or more for sh, in the folder; \
Python's standard library is there, a network is not, and processes end with the block. Where a \
content holds ``` itself, fence it with ````. Blocks are carried out in order, and you are shown \
what came of them. When the task is done, and only then, reply with `done`: it ends your work."""
SILENT = "Found no block to carry out. Reply with a block: read, write, replace, run or done."
CUT = "Your reply was cut off at its limit of tokens; write less at a time."
ACTIONS = ("read", "write", "replace", "run", "done")
FENCE = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1`*[ \t]*$", re.DOTALL | re.MULTILINE)
EDIT = re.compile(r"^<{4,}[^\n]*\n(.*?)^={4,}\n(.*?)^>{4,}[^\n]*\n?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Action:
    """One block. `path` is what follows the action on its first line."""

    kind: str
    path: str
    text: str


def opening(task: Task) -> list[dict[str, str]]:
    """The first messages: the rules, then the task and its folder."""
    listed = "\n".join(f"{path} ({len(text)} characters)" for path, text in task.files.items())
    said = f"{task.goal}\n\nThe folder holds:\n{listed}"
    return [{"role": "system", "content": RULES}, {"role": "user", "content": said}]


def parse(reply: str) -> list[Action]:
    """The blocks of a reply that are actions, in order; others are for show."""
    found = []
    for _, first, text in FENCE.findall(reply.replace("\r\n", "\n")):
        kind, _, path = first.strip().partition(" ")
        if kind in ACTIONS:
            found.append(Action(kind, path.strip(), text))
    return found


def perform(action: Action, files: Files, run: Run) -> tuple[Files, str]:
    """The files after an action, and what the student is told."""
    if action.kind == "run":
        return _run(action.text, files, run)
    if not is_inside(action.path):
        return files, f"found the path {action.path!r:.80}, expected one below the folder"
    if action.kind == "write":
        return _write(action.path, action.text, files)
    if action.path not in files:
        return files, f"found no file {action.path!r:.80}; there are {', '.join(sorted(files))}"
    if action.kind == "read":
        return files, shortened(files[action.path])
    return _replace(action.path, action.text, files)


def _write(path: str, text: str, files: Files) -> tuple[Files, str]:
    if len(text) > LARGEST:
        return files, f"found {len(text)} characters, expected at most {LARGEST}"
    for other in files:
        if other.startswith(f"{path}/") or path.startswith(f"{other}/"):
            return files, f"found {other}, so that {path} cannot be a file"
    return {**files, path: text}, f"written: {path}"


def _replace(path: str, text: str, files: Files) -> tuple[Files, str]:
    edits, content = EDIT.findall(text), files[path]
    if not edits:
        return files, "found no lines <<<<<<<, ======= and >>>>>>>, expected them"
    for old, new in edits:
        count = content.count(old) if old else 0
        if count != 1:
            return files, f"found the old lines {count} times in {path}, expected once"
        content = content.replace(old, new)
    return _write(path, content, files)


def _run(line: str, files: Files, run: Run) -> tuple[Files, str]:
    left = run(Command(line, files))
    told = shortened(left.output)
    told += "" if told.endswith("\n") or not told else "\n"
    late = "no exit code" if left.files is None else "out of time"
    told += late if left.code is None else f"exit code {left.code}"
    if left.left_out:
        told += f"\nnot kept, as no plain files: {', '.join(left.left_out)}"
    if left.files is None:
        told += "\nthe folder is as it was before"
    return files if left.files is None else left.files, told


def shortened(text: str) -> str:
    """Its two ends, where it is long."""
    if len(text) <= SHOWN:
        return text
    left_out = len(text) - SHOWN
    return f"{text[: SHOWN // 2]}\n[… {left_out} characters …]\n{text[-SHOWN // 2 :]}"


def readable(text: str) -> str:
    """Without what is no UTF-8, for which some servers have no ear."""
    return text.encode("utf-8", "replace").decode()
