"""The fields of contracts and evidence, as their pydantic models describe them."""

from collections.abc import Iterator
from typing import Any

from tollens import contract, evidence

Schema = dict[str, Any]
PLURAL = {"string": "texts", "number": "numbers", "integer": "whole numbers"}


def contract_page() -> str:
    intro = "What a contract may hold, from the models that read it. Unknown keys are errors."
    return "".join(_page("The contract's fields", intro, contract.json_schema()))


def evidence_page() -> str:
    intro = "What an evidence file holds, from the models that write it. Nobody edits it by hand."
    return "".join(_page("The evidence's fields", intro, evidence.json_schema()))


def _page(title: str, intro: str, schema: Schema) -> Iterator[str]:
    kind = title.split()[1].removesuffix("'s")
    yield f"# {title}\n\n{intro} `tollens schema {kind}` prints the JSON Schema.\n"
    parts = schema["$defs"]
    objects = {name for name, part in parts.items() if "properties" in part}
    yield from _object(schema["title"], schema, parts)
    for name in [name for name in _in_order(schema, parts) if name in objects]:
        yield from _object(name, parts[name], parts)


def _in_order(schema: Schema, parts: Schema) -> list[str]:
    """The parts in the order in which a reader meets them."""
    met: list[str] = []
    for name in _references(schema.get("properties", {})):
        met += [name, *_in_order(parts[name], parts)]
    return list(dict.fromkeys(met))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from _references(each)


def _object(name: str, schema: Schema, parts: Schema) -> Iterator[str]:
    yield f"\n## {name}\n\n{schema.get('description', '')}\n\n"
    yield "| field | value | if omitted | |\n|---|---|---|---|\n"
    for field, said in schema["properties"].items():
        required = field in schema.get("required", ())
        null = " or `null`" if required and {"type": "null"} in said.get("anyOf", ()) else ""
        omitted = "required" if required else _default(said)
        cells = (f"`{field}`", _type(said, parts) + null, omitted, said.get("description", ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(said: Schema) -> str:
    default = said.get("default")
    return "none" if default in (None, "", [], {}) else f"`{str(default).lower()}`"


def _type(said: Schema, parts: Schema) -> str:
    """A field's type in words; a part with fields of its own is linked."""
    if "$ref" in said:
        name = said["$ref"].rpartition("/")[2]
        part = parts[name]
        return f"[{name}](#{name.lower()})" if "properties" in part else _type(part, parts)
    if "anyOf" in said:
        kinds = [_type(each, parts) for each in said["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    for key in ("enum", "const"):
        if key in said:
            values = said[key] if key == "enum" else [said[key]]
            return ", ".join(f"`{value}`" for value in values)
    return _plain(said, parts)


def _plain(said: Schema, parts: Schema) -> str:
    kind: str = said["type"]
    if kind == "array":
        inner = _type(said["items"], parts)
        return f"list of {PLURAL.get(said['items'].get('type'), inner)}"
    if kind == "object":
        values = [*said.get("patternProperties", {}).values(), said.get("additionalProperties")]
        return f"name → {_type(next(each for each in values if each), parts)}"
    pattern = f" like `{said['pattern']}`" if "pattern" in said else ""
    words = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`"}
    return words.get(kind, kind) + pattern
