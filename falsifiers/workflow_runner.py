"""How GitHub's runner reads a workflow command (actions/runner, ActionCommand.TryParseV2)."""

import re


def parse(line):
    """(command, properties, message), or None where it is no command."""
    found = re.fullmatch(r"::(?P<about>.*?)::(?P<data>.*)", line)
    if found is None:
        return None
    name, _, rest = found["about"].partition(" ")
    pairs = (each.split("=", 1) for each in rest.strip().split(",") if "=" in each)
    properties = {key.strip(): _property(value) for key, value in pairs}
    return name, properties, _data(found["data"])


def _data(text):
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def _property(text):
    for escape, meaning in {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}.items():
        text = text.replace(escape, meaning)
    return text
