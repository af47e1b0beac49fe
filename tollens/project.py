"""Where a project keeps its contracts, tests, saboteurs and evidence; knows only folders."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

from tollens.contract import Loaded, across, validate
from tollens.dialect import Foreign, is_foreign
from tollens.errors import ContractError, Finding, ProjectError
from tollens.source import parse, read_text


@dataclass(frozen=True)
class Project:
    """The `[tool.tollens]` table of `pyproject.toml`; every folder is relative to `root`."""

    root: Path
    contracts: str = "contracts"
    falsifiers: str = "falsifiers"
    saboteurs: str = "falsifiers/saboteurs"
    evidence: str = "evidence"
    seed: int = 0

    def shown(self, path: Path) -> str:
        """`path` relative to the root where it is below it: what findings and evidence name."""
        root, resolved = self.root.as_posix(), _real(path)
        if resolved == root:
            return "."
        inside = f"{root.rstrip('/')}/"
        return resolved.removeprefix(inside) if resolved.startswith(inside) else path.as_posix()

    def evidence_path(self, contract_id: str) -> Path:
        return self.root / self.evidence / contract_id / "evidence.json"

    def contract_files(self) -> list[Path]:
        """The files in the project's folder of contracts; none where there is no such folder."""
        return sorted((self.root / self.contracts).rglob("*.y*ml"))

    def cache(self) -> Path:
        """The folder of what is not committed; created with its own .gitignore."""
        folder = self.root / ".tollens"
        if not (folder / ".gitignore").exists():
            folder.mkdir(exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
        return folder


def resolve(path: Path) -> Path:
    """`path.resolve()`, at the cost of one look at the file system for each file in a folder."""
    return Path(_real(path))


def _real(path: Path) -> str:
    folder, name = os.path.split(os.path.join(os.getcwd(), path))
    plain = name not in ("", "..") and not os.path.islink(path)
    return os.path.join(_folder(folder), name) if plain else os.path.realpath(path)


@lru_cache(maxsize=1024)
def _folder(path: str) -> str:
    return os.path.realpath(path)


def find_project(start: Path) -> Project:
    """The project at or above `start`: the nearest folder with a pyproject.toml or contracts."""
    start = start.resolve()
    start = start if start.is_dir() else start.parent
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() or (folder / "contracts").is_dir():
            return read_project(folder)
    return Project(start)


def read_project(root: Path) -> Project:
    """The project at `root`, with the defaults where its pyproject.toml says nothing."""
    path = root / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text()).get("tool", {}).get("tollens", {})
    except FileNotFoundError:
        table = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path}: {error}") from error
    expected = {field.name: str(field.type) for field in fields(Project) if field.name != "root"}
    for key, value in table.items():
        if type(value).__name__ != expected.get(key):
            wanted = ", ".join(f"{name} ({kind})" for name, kind in expected.items())
            raise ProjectError(f"{path}: [tool.tollens] {key} = {value!r}; expected {wanted}")
    return Project(root.resolve(), **table)


def contract_paths(arguments: Iterable[Path]) -> list[Path]:
    """The contract files named by files and folders, each once, in order."""
    found: dict[Path, None] = {}
    for argument in arguments:
        if not argument.exists():
            raise ProjectError(f"{argument}: no such file or folder; expected a contract")
        paths = sorted(argument.rglob("*.y*ml")) if argument.is_dir() else [argument]
        if not paths:
            raise ProjectError(f"{argument}: holds no contract (*.yaml)")
        found |= dict.fromkeys(map(resolve, paths))
    return list(found)


@dataclass(frozen=True)
class Contracts:
    """What some files hold: valid contracts, contracts in another dialect, and what is neither."""

    loaded: list[Loaded] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def load_contracts(project: Project, paths: Iterable[Path]) -> Contracts:
    """As `read_contracts`; raises ContractError with the findings of all that are invalid."""
    read = read_contracts(project, paths)
    if read.findings:
        raise ContractError(read.findings)
    return read


def load_together(project: Project, paths: Iterable[Path]) -> Contracts:
    """As `load_contracts`, of contracts that also go together: no id twice, no cycle."""
    read = load_contracts(project, paths)
    wrong = list(across(read.loaded, [path.stem for path in project.contract_files()]))
    if wrong:
        raise ContractError(wrong)
    return read


def read_contracts(project: Project, paths: Iterable[Path]) -> Contracts:
    """What `paths` hold, each file read once."""
    read = Contracts()
    for path in paths:
        shown = project.shown(path)
        try:
            source = parse(read_text(path, shown), shown)
            if is_foreign(source.data):
                read.foreign.append(Foreign(path, source))
            else:
                read.loaded.append(validate(path, source))
        except ContractError as error:
            read.findings.extend(error.findings)
    return read
