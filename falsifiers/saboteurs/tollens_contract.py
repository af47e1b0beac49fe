"""Planted faults in reading contracts (contracts/tollens-contract-v1)."""

import copy
import math

import yaml


def contract_line_off_by_one(plant):
    """Findings name the line below the one that is wrong."""
    plant("tollens.source.Source.line", lambda line: lambda *args: line(*args) + 1)


def contract_key_lost(plant):
    """Findings name no key."""
    plant("tollens.source.dotted", lambda dotted: lambda location: "")


def contract_duplicate_key_accepted(plant):
    """Of two equal keys the last one counts, silently."""

    def last_counts(pairs):
        def replacement(builder, at):
            for event in builder.inner():
                yield event.value, builder.value(builder.next_event(), (*at, event.value))

        return replacement

    plant("tollens.source._Builder.pairs", last_counts)


def contract_inconsistency_accepted(plant):
    """A contract's own ids and references are not looked at."""
    plant("tollens.contract._inconsistencies", lambda original: lambda *args: iter(()))


def contract_cycle_unnoticed(plant):
    """Only a contract's direct dependencies are looked at."""
    plant("tollens.contract._reachable", lambda reachable: lambda start, by_id: {start})


def contract_dangling_accepted(plant):
    """A dependency on a contract that does not exist is let pass."""

    def silent(across):
        def replacement(*args):
            return (each for each in across(*args) if each.expected != "the id of a contract")

        return replacement

    plant("tollens.contract.across", silent)


def contract_hostile_composed(plant):
    """Text is composed as it comes: aliases expand and the parser's stack is not guarded."""
    plant("tollens.source._refuse_hostile", lambda refuse: lambda *args: None)


def contract_size_unguarded(plant):
    """A file is read and parsed however large it is."""

    def unlimited(original):
        def replacement(*args):
            globals_ = original.__globals__
            limit = globals_["MAX_BYTES"]
            globals_["MAX_BYTES"] = math.inf
            try:
                return original(*args)
            finally:
                globals_["MAX_BYTES"] = limit

        return replacement

    plant("tollens.source.read_text", unlimited)
    plant("tollens.source.parse", unlimited)


def contract_yaml_1_1(plant):
    """Scalars are read as YAML 1.1: `no` is false and `1e-6` is text."""

    def as_1_1(scalar):
        def replacement(node):
            try:
                return node.value if node.style else yaml.safe_load(node.value)
            except yaml.YAMLError:
                return node.value

        return replacement

    plant("tollens.source._scalar", as_1_1)


def contract_quotes_ignored(plant):
    """A quoted scalar is read as if it were plain."""

    def as_plain(scalar):
        def replacement(node):
            plain = copy.copy(node)
            plain.style = None
            return scalar(plain)

        return replacement

    plant("tollens.source._scalar", as_plain)


def _altered(change):
    def fault(json_schema):
        def replacement():
            schema = json_schema()
            change(schema)
            return schema

        return replacement

    return fault


def contract_schema_drifted(plant):
    """The models have a key that the published schema does not know."""
    plant(
        "tollens.contract.json_schema",
        _altered(lambda schema: schema["properties"].update(owner={"type": "string"})),
    )


def contract_schema_open(plant):
    """The schema lets unknown keys pass."""
    plant(
        "tollens.contract.json_schema",
        _altered(lambda schema: schema.pop("additionalProperties")),
    )


def contract_schema_narrow(plant):
    """The schema asks for a key that the models do without."""
    plant(
        "tollens.contract.json_schema",
        _altered(lambda schema: schema["required"].append("description")),
    )
