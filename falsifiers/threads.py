"""How many threads torch's arithmetic has, while a test runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For each test of a module that imports it: small models' threads wait more than they work."""
    with threads(1):
        yield
