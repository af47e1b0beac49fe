"""Writes data as YAML that reads as YAML 1.2 does; knows no contracts."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from tollens.source import CORE_SCHEMA

TAGS = ("null", "bool", "bool", "int", "int", "int", "float", "float")


def dump(data: Any) -> str:
    """`data` as block YAML, its keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes YAML that reads as YAML 1.2 does: a string that looks like a number is quoted."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {  # type: ignore[misc]
        None: [
            (f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern.pattern})\Z"))
            for tag, (pattern, _) in zip(TAGS, CORE_SCHEMA, strict=True)
        ]
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _written(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _written)
