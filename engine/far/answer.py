"""Reads the question, has it answered, and says the answer or why there is none."""

from __future__ import annotations

import json
import sys

from engine.far.frames import Refused, say
from engine.far.job import start
from engine.far.probe import probe
from engine.far.project import check, environment, keep, receive
from engine.far.watch import fetch, follow

ACTIONS = {
    each.__name__: each for each in (probe, keep, receive, environment, check, start, follow, fetch)
}


def main() -> None:
    """One question, one answer."""
    question = json.loads(sys.stdin.buffer.readline())
    action = ACTIONS[question.pop("action")]
    try:
        answer = action(**question)
    except Refused as error:
        say(error=str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(error=f"{where}found {error.strerror or error}, expected to read and write there")
    else:
        say(answer=answer)
