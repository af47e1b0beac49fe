"""What is said over the connection: lines of JSON behind a mark, and raw bytes.

The mark tells them from what a login shell may print. Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MARK = b"\x1e"


class Refused(Exception):
    """What was asked cannot be done here."""


def say(**frame: Any) -> None:
    """One line, at once."""
    sys.stdout.buffer.write(MARK + json.dumps(frame).encode() + b"\n")
    sys.stdout.buffer.flush()


def hear(size: int) -> bytes:
    """That many bytes that follow the question, or fewer where the connection ended."""
    return sys.stdin.buffer.read(size)
