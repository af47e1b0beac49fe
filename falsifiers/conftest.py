"""The model files that falsifiers share: the embedded default, and the real one if it is given."""

import os
from pathlib import Path

import pytest

REAL = os.environ.get("QWEN3_MOE_GGUF_PATH")
SHAPE = os.environ.get("QWEN3_MOE_SHAPE_GGUF_PATH")  # synthetic, of the real one's shapes
GIVEN = ["the given file"] if REAL or SHAPE else []  # a test's case more, with `shape_gguf`


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small qwen3moe GGUF; its name does not say so, to catch a dispatch by file name."""
    return write_fixture(tmp_path_factory.mktemp("fixture") / "tiny.gguf", "qwen3moe")


@pytest.fixture(scope="session")
def tiny_dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dense qwen3 GGUF, whose name says otherwise."""
    return write_fixture(tmp_path_factory.mktemp("fixture") / "moe.gguf", "qwen3")


@pytest.fixture(scope="session")
def gguf(tiny: Path) -> Path:
    """The qwen3moe GGUF whose words to judge: the real one if it is given, else the embedded one.

    Most tokens of a synthetic one of the true shapes spell nothing.
    """
    return Path(REAL or tiny)


@pytest.fixture
def observe_model(observe, gguf: Path):
    """`observe`, at level runtime where `gguf` is a real file."""
    if REAL:
        observe.at("runtime", artifact=gguf)
    return observe


@pytest.fixture
def shape_gguf(observe) -> Path | None:
    """A GGUF of the true shapes, if one is given: the real one, else a synthetic one.

    The test then observes at level runtime or functional.
    """
    if REAL:
        observe.at("runtime", artifact=REAL)
    elif SHAPE:
        observe.at("functional", artifact=SHAPE)
    given = REAL or SHAPE
    return Path(given) if given else None


def write_fixture(path: Path, architecture: str) -> Path:
    from falsifiers import kept_models  # here: the harness's own falsifiers do without torch

    return kept_models.write_fixture(path, architecture=architecture)
