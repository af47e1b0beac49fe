"""What a command left: its exit code and what it printed."""

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def text(self) -> str:
        """What was printed, with the line breaks of wrapping taken out."""
        return re.sub(r"\s+", " ", self.out + self.err)

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def findings(self) -> Any:
        return self.json["findings"]
