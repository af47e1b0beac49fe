"""What stands in, where pages are followed, for what their reader has and this machine has not.

Files that a page names and never writes are laid out when a command names them. Parts of a command
are replaced: some by what prints the same, others by something smaller, after which what is printed
is not compared. A command of this repository runs in a copy of it. Knows nothing of shells.
"""

import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from falsifiers.doc_pages import ROOT
from falsifiers.embedded import EMBEDDED

CHECKOUT = re.compile(r"^(\.venv/bin|engine)/|^python -m engine (run|serve) falsifiers/")
STANDARD = Path(re.__file__).parents[1]  # the standard library
SAME = (
    # In a process of its own; evidence that is stale today is no concern of the page.
    (r"^\.venv/bin/pytest", 'PYTHONPATH="$PWD" .venv/bin/pytest --record=never'),
    (r"serve model\.gguf &", "serve model.gguf --port 8000 &"),  # the default, where all is free
    (r"^curl -s ", "curl -s --retry 30 "),  # people type more slowly than a model loads
)
SMALLER = (
    (r"corpus --stdlib", f"corpus {STANDARD / 'json'}"),
    (r"--train-vocabulary 4096", "--train-vocabulary 300"),
    # Of the demo's teacher, which stands in for the one that this corpus is to teach.
    (r"--train-vocabulary 2048", f"--tokenizer {EMBEDDED}"),
    (
        r"(engine distill --(?!resume)(?s:.)*)\Z",
        r"\1 --steps 2 --batch 1 --seq-len 16 --warmup 1 --heldout-windows 1",
    ),
    (r"(engine bench-agent .*--out bench --.*)\Z", r"\1 --fixtures 1 --turn-tokens 8"),
)
PORT = re.compile(r"\b(8000|8011|8977)\b")  # those that pages choose
Ports = dict[str, int]


def is_in_checkout(path_or_command: str) -> bool:
    """Whether a page speaks of this repository, and not of its reader's project."""
    return bool(CHECKOUT.search(path_or_command))


def typed(text: str, ports: Ports) -> tuple[str, bool]:
    """What is typed in place of a command, and whether what it prints can be compared."""
    for pattern, instead in SAME:
        text = re.sub(pattern, instead, text)
    smaller = text
    for pattern, instead in SMALLER:
        smaller = re.sub(pattern, instead, smaller)
    return at_ports(smaller, ports), smaller == text


def at_ports(text: str, ports: Ports) -> str:
    """With ports that are free in place of those that a page chose."""
    return PORT.sub(lambda chosen: str(ports.setdefault(chosen[0], _free_port())), text)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def idle(texts: Iterable[str]) -> list[str]:
    """Rows of the tables that no command needs."""
    commands = list(texts)
    rows = [pattern for pattern, _ in SAME + SMALLER] + [re.escape(name) for name in FILES]
    return [each for each in rows if not any(re.search(each, text) for text in commands)]


def lay_out(text: str, folder: Path) -> None:
    """Make the files that a command names and that are not there."""
    for name, make in FILES.items():
        path = folder / name
        if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", text) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)


def checkout(path: Path) -> None:
    """A copy of what the commands of this repository touch, with its virtual environment."""
    for name in ("engine", "falsifiers", "contracts", "evidence/moe-router-v1"):
        shutil.copytree(ROOT / name, path / name, ignore=_other_tests)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, path)
    (path / "tollens").symlink_to(ROOT / "tollens")
    (path / ".venv").symlink_to(sys.prefix)


def _other_tests(_: str, names: list[str]) -> list[str]:
    """What is not copied, so that collecting is quick."""
    return [each for each in names if re.match(r"__pycache__|test_(?!moe_router\.py)", each)]


def _trained(path: Path) -> None:
    path.symlink_to(EMBEDDED)


def _student(path: Path) -> None:
    path.symlink_to(ROOT / "docs/demo/student.json")


def _texts(path: Path) -> None:
    shutil.copytree(ROOT / "docs/how-to", path)


def _scaled(path: Path) -> None:
    """`tiny.gguf` beside it, with the gate of layer 1 multiplied by 3: by the blocks' scales."""
    import numpy as np
    from gguf import GGUFReader

    shutil.copy(path.with_name("tiny.gguf"), path)
    reader = GGUFReader(path, "r+")
    [gate] = [each for each in reader.tensors if each.name == "blk.1.ffn_gate_exps.weight"]
    blocks = gate.data.reshape(-1, 144)  # bytes of a block of Q4_K; the scales come first
    blocks[:, :4] = (blocks[:, :4].copy().view(np.float16) * np.float16(3)).view(np.uint8)
    reader.data.flush()


FILES: dict[str, Callable[[Path], None]] = {
    "build/demo/teacher/teacher-Q4_K_M.gguf": _trained,
    "docs/demo/student.json": _student,
    "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf": _trained,
    "model.gguf": _trained,
    "big.gguf": _trained,
    "small.json": _student,
    "notes": _texts,
    "scaled.gguf": _scaled,
}
