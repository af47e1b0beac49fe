"""Findings as GitHub's workflow commands, which it shows at the line in a pull request.

The escapes are those of actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

from tollens.errors import Finding


def command(finding: Finding) -> str:
    """One line: `::error file=…,line=…,title=RULE::what was found, was expected, is to do`."""
    rows = [("", finding.found), ("expected: ", finding.expected), ("do: ", finding.hint)]
    message = "\n".join(f"{name}{text}" for name, text in rows if text)
    given = {"file": finding.path, "line": finding.line, "title": finding.rule}
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in given.items())
    return f"::{finding.severity} {properties}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
