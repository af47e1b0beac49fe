"""Writes the start of a new contract, with its test and its saboteur; overwrites nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from tollens.contract import SLUG
from tollens.errors import ProjectError
from tollens.project import Project

CONTRACT = """\
# yaml-language-server: $schema={schema}
schema: tollens/contract/v1
id: {id}
version: 0.1.0
title: {title}
subject: [{subject}]
falsifiers:
  - id: {falsifier}
    rule: what holds, in one sentence
    prediction: what is observed if it holds
    measures:
      max_abs_error: {{le: 1.0e-6, unit: "1"}}
    kills: [{saboteur}]
    if_fails: where to look first
gates:
  - {{id: GATE-{gate}, requires: [{falsifier}], ship_blocking: true}}
"""

TEST = '''\
"""Tries to refute the claims of contracts/{id}.yaml."""

import pytest


@pytest.mark.falsifies("{falsifier}")
def test_{area}(observe):
    pytest.fail("measure the subject here: observe('max_abs_error', …)")
'''

SABOTEUR = '''\
"""Planted faults that the falsifiers of contracts/{id}.yaml must kill."""


def {function}(plant):
    """Say in one line what is broken."""
    plant("{subject}.FUNCTION", lambda original: lambda *args, **kwargs: None)
'''


def write_scaffold(project: Project, contract_id: str, subject: str) -> list[Path]:
    """Write contract, test and saboteur for `contract_id`; returns the files written.

    Raises ProjectError where the id is none, or where one of the files exists already.
    """
    if not re.fullmatch(SLUG, contract_id):
        raise ProjectError(f"id {contract_id!r}; expected lower-case words, like tokenizer-v1")
    area = contract_id.rpartition("-v")[0] or contract_id
    name, root = area.replace("-", "_"), project.root
    contract = root / project.contracts / f"{contract_id}.yaml"
    test = root / project.falsifiers / f"test_{name}.py"
    saboteur = root / project.saboteurs / f"{name}.py"
    refuse_existing(project, (contract, test, saboteur))
    values = {
        "area": name,
        "falsifier": f"F-{area.upper()}-001",
        "function": f"{name}_fault",
        "gate": area.upper(),
        "id": contract_id,
        "saboteur": f"{area}-fault",
        "schema": schema_for(contract),
        "subject": subject,
        "title": area.replace("-", " "),
    }
    put_schema(contract)
    for path, text in ((contract, CONTRACT), (test, TEST), (saboteur, SABOTEUR)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**values))
    return [contract, test, saboteur]


def refuse_existing(project: Project, paths: Iterable[Path]) -> None:
    """Raise ProjectError where one of `paths` exists."""
    for path in paths:
        if path.exists():
            raise ProjectError(f"{project.shown(path)} exists; nothing was written")


def schema_for(contract: Path) -> str:
    """The schema's path from the contract: the package's own inside the project, else a copy's."""
    packaged = _packaged()
    if packaged.is_relative_to(contract.parent.parent):
        return Path(os.path.relpath(packaged, contract.parent)).as_posix()
    return packaged.name


def put_schema(contract: Path) -> None:
    """Copy the schema beside a contract that points at such a copy."""
    packaged = _packaged()
    if schema_for(contract) == packaged.name:
        contract.parent.mkdir(parents=True, exist_ok=True)
        contract.with_name(packaged.name).write_bytes(packaged.read_bytes())


def _packaged() -> Path:
    return Path(str(resources.files("tollens").joinpath("schema", "contract.schema.json")))
