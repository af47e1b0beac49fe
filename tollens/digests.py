"""Which source files a falsifier's evidence rests on, and their digests.

Follows imports by reading, never by importing. Knows nothing of verdicts.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tollens.bindings import Binding
from tollens.contract import Contract, Falsifier, digest
from tollens.errors import ProjectError
from tollens.project import Project

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where statements have statements


@dataclass(frozen=True)
class Digests:
    """What evidence is valid for: a claim, its test's source and its subject's source."""

    claim: str
    test: str
    subject: str

    def as_json(self) -> dict[str, str]:
        return {"claim": self.claim, "subject": self.subject, "test": self.test}


@dataclass
class Sources:
    """The project's source files: their digests and imports, each file read once."""

    project: Project
    _sha256: dict[str, str] = field(default_factory=dict)
    _imports: dict[str, list[str]] = field(default_factory=dict)
    _modules: dict[str, str | None] = field(default_factory=dict)
    _conftest_files: dict[str, list[str]] = field(default_factory=dict)

    def sha256(self, path: str) -> str:
        """Digest of a file, with line ends as git stores them."""
        if path not in self._sha256:
            data = (self.project.root / path).read_bytes().replace(b"\r\n", b"\n")
            self._sha256[path] = hashlib.sha256(data).hexdigest()
        return self._sha256[path]

    def digest(self, paths: Iterable[str]) -> str:
        return digest({path: self.sha256(path) for path in sorted(set(paths))})

    def closure(self, paths: Iterable[str], under: str = "") -> set[str]:
        """`paths` and every project file that they import, transitively, below `under`."""
        seen: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in seen and path.startswith(under):
                seen.add(path)
                waiting += self.imports(path)
        return seen

    def imports(self, path: str) -> list[str]:
        """The project files that `path` imports, anywhere in it."""
        if path not in self._imports:
            self._imports[path] = sorted(set(self._read_imports(path)))
        return self._imports[path]

    def note(self, path: str, tree: ast.Module) -> None:
        """Remember what a file imports, from its syntax, so that it need not be parsed again."""
        self._imports[path] = sorted(set(self._found(tree, path)))

    def module(self, name: str) -> str | None:
        """The project file of module `name`, relative to the root."""
        if name not in self._modules:
            self._modules[name] = self._find_module(name)
        return self._modules[name]

    def _find_module(self, name: str) -> str | None:
        stem = name.replace(".", "/")
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            for base in ("", "src/"):
                if (self.project.root / base / candidate).is_file():
                    return base + candidate
        return None

    def _read_imports(self, path: str) -> Iterator[str]:
        file = self.project.root / path
        if file.suffix != ".py":
            return
        text = file.read_bytes()
        if b"import" not in text:
            return  # most saboteurs import nothing
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return
        yield from self._found(tree, path)

    def _found(self, tree: ast.Module, path: str) -> Iterator[str]:
        for names in imported_names(tree, path):
            found = next(filter(None, map(self.module, names)), None)
            if found:
                yield found

    def subject(self, contract: Contract) -> set[str]:
        """The files of the code under test. Raises ProjectError for an unknown subject."""
        return self.closure(map(self._subject_path, contract.subject))

    def _subject_path(self, name: str) -> str:
        found = self.module(name)
        if found is None and (self.project.root / name).is_file():
            return name
        if found is None:
            raise ProjectError(f"subject {name}: no such module or file below {self.project.root}")
        return found

    def test(self, falsifier: Falsifier, bindings: Iterable[Binding]) -> set[str]:
        """The test files bound to a falsifier, what they import from the test folder, conftests."""
        paths = {each.path for each in bindings if each.falsifier == falsifier.id}
        conftests = {found for path in paths for found in self._conftests(path)}
        return self.closure(paths, f"{self.project.falsifiers}/") | conftests

    def _conftests(self, path: str) -> list[str]:
        folder = path.rpartition("/")[0]
        if folder not in self._conftest_files:
            candidates = [each / "conftest.py" for each in Path(path).parents]
            there = [each for each in candidates if (self.project.root / each).is_file()]
            self._conftest_files[folder] = [each.as_posix() for each in there]
        return self._conftest_files[folder]


@dataclass(frozen=True)
class Today:
    """The digests of a contract's falsifiers as the working tree stands, and the files behind."""

    falsifiers: Mapping[str, Digests]
    files: Mapping[str, Mapping[str, str]]
    subject: str


def today(contract: Contract, sources: Sources, bindings: Iterable[Binding]) -> Today:
    """Digest everything that a contract's evidence rests on."""
    marks = list(bindings)
    code = sources.subject(contract)
    subject = sources.digest(code)
    digests, files = {}, {}
    for falsifier in contract.falsifiers:
        tests = sources.test(falsifier, marks)
        digests[falsifier.id] = Digests(contract.claim(falsifier), sources.digest(tests), subject)
        files[falsifier.id] = {path: sources.sha256(path) for path in sorted(tests | code)}
    return Today(digests, files, subject)


def imported_names(tree: ast.AST, path: str) -> Iterator[tuple[str, ...]]:
    """For each name that a module imports, the modules that it could mean, the likeliest first.

    `from a import b` means the module `a.b` where there is one, and else something in `a`.
    """
    package = Path(path).parent.parts
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*up, *([node.module] if node.module else [])))
            yield from ((f"{base}.{alias.name}", base) for alias in node.names)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and every statement in it, at any depth; what is inside expressions is left out."""
    yield node
    for block in BLOCKS:
        for inner in getattr(node, block, ()):
            yield from statements(inner)


def git(root: Path, *arguments: str) -> str | None:
    """Output of a git command in `root`, or None where git or the repository is not there."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None
