"""Reads little-endian numbers and strings from bytes that nobody vouches for.

Knows lengths, UTF-8 and where the bytes must end; knows nothing of what they mean. Every length
and count is compared with the bytes that are left before anything is made of it. What comes out
is some times as large as what went in (a Python string of two characters takes 51 bytes), which is
why a cursor has an `end` of its own and not just the data's.
"""

import mmap
import struct
from dataclasses import dataclass
from reprlib import repr as shown  # short, however long the value is
from typing import Any

import numpy as np

from engine.errors import FormatError

SIZE = struct.Struct("<Q")  # of strings and arrays


@dataclass
class Cursor:
    """A place `at` in `data`, which moves on with every read and never beyond `end`.

    `where` and `what` say in the errors what was being read.
    """

    data: mmap.mmap | bytes
    end: int
    at: int = 0

    def take(self, size: int, where: str) -> bytes:
        """The next `size` bytes."""
        end = self.at + size
        if end > self.end:
            raise self._ends_early(where, size)
        taken, self.at = self.data[self.at : end], end
        return taken

    def number(self, form: str, where: str) -> int:
        """One number, by its letters in `struct`."""
        number: int = struct.unpack(form, self.take(struct.calcsize(form), where))[0]
        return number

    def count(self, what: str, size: int, most: int | None = None) -> int:
        """A count of things that take at least `size` bytes each, so that it cannot be absurd."""
        count = self.number("<Q", f"the number of {what}")
        room = (self.end - self.at) // size
        room = room if most is None else min(room, most)
        if count > room:
            raise FormatError(f"found {count} {what}, expected at most {room}, for want of room")
        return count

    def numbers(self, dtype: np.dtype[Any], count: int, where: str) -> list[Any]:
        """An array, as Python's numbers; booleans must be 0 or 1."""
        data = self.take(count * dtype.itemsize, where)
        if dtype == np.bool_ and max(data, default=0) > 1:
            raise FormatError(f"{where}: found byte {max(data)}, expected a boolean, 0 or 1")
        values: list[Any] = np.frombuffer(data, dtype).tolist()
        return values

    def string(self, where: str, most: int | None = None) -> str:
        """One string of at most `most` bytes."""
        data = self.take(self.count(f"bytes in {where}", 1, most), where)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{where}: found {error}, expected UTF-8") from error

    def name(self, where: str, most: int) -> str:
        """A string that can go into messages as it is."""
        name = self.string(where, most)
        if not name.isprintable():
            raise FormatError(f"{where}: found {shown(name)}, expected printable characters")
        return name

    def strings(self, count: int, where: str) -> list[str]:
        """Many strings at once; this loop is most of the time that a vocabulary takes."""
        data, at, end, size_at = self.data, self.at, self.end, SIZE.unpack_from
        texts: list[str] = []
        try:
            for _ in range(count):
                start = at + SIZE.size
                at = start + size_at(data, at)[0]
                if at > end:
                    raise self._ends_early(f"string {len(texts)} of {where}", at - self.at)
                texts.append(data[start:at].decode())
        except (struct.error, UnicodeDecodeError) as error:
            raise FormatError(
                f"string {len(texts)} of {where}: found {error}, expected UTF-8"
            ) from error
        self.at = at
        return texts

    def _ends_early(self, where: str, size: int) -> FormatError:
        left = self.end - self.at
        return FormatError(f"{where}: found {left} bytes up to the end, expected {size}")
