"""GGUF files: good ones are read as the `gguf` package reads them, bad ones are refused.

The files are made byte by byte (`falsifiers.damage`), so that each is wrong in one known place;
then at random by hypothesis.
"""

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
from engine.fixture import SHAPES, FixtureShape, tensor_specs
from engine.mixes import MIXES
from falsifiers import readings
from falsifiers.bad_files import bad_containers, bad_metadata, bad_tensors
from falsifiers.damage import (
    U32,
    Packed,
    Part,
    Parts,
    is_clear,
    outcome,
    resident,
    small_parts,
    write,
)
from falsifiers.kept_models import write_fixture
from falsifiers.thorough import THOROUGH

SMALL = FixtureShape(
    layers=1, heads=4, kv_heads=2, experts=2, experts_used=2, dense_width=256, vocabulary=300
)
Edit = Callable[[bytearray], None]
BOUNDARIES = (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
# Tensor type -> where its blocks have floats, and their number of bytes.
FLOATS_AT = {
    "F32": ([0], 4),
    "F16": ([0], 2),
    "BF16": ([0], 2),
    "Q8_0": ([0], 2),
    "Q4_0": ([0], 2),
    "Q4_K": ([0, 2], 2),
    "Q5_K": ([0, 2], 2),
    "Q6_K": ([208], 2),
}


@pytest.fixture
def small() -> Packed:
    return small_parts().pack()


@pytest.fixture
def mixes(tmp_path) -> dict[str, Path]:
    """A small model for every mix of types."""
    return {
        mix: write_fixture(tmp_path / f"{mix}.gguf", shape=replace(SMALL, mix=mix)) for mix in MIXES
    }


@pytest.mark.falsifies("FALSIFY-FILES-001")
def test_files_are_read_as_the_gguf_package_reads_them(observe, tmp_path, mixes):
    small = write(tmp_path / "small.gguf", small_parts().pack().data)
    paths = [*mixes.values(), small, readings.write_every_value(tmp_path / "values.gguf")]
    differing = [path.name for path in paths if not is_read_rightly(path)]
    print(differing)
    observe("files_read_otherwise", len(differing))
    observe("files", len(paths))


def is_read_rightly(path: Path) -> bool:
    """Whether the engine reads all of a file as the `gguf` package does."""
    try:
        return readings.are_same(readings.engines(path), readings.packages(path))
    except Exception as error:
        print(path.name, repr(error))
        return False


@pytest.mark.falsifies("FALSIFY-FILES-002")
def test_a_file_cut_at_any_byte_is_refused(observe, tmp_path, small):
    path = tmp_path / "small.gguf"
    path.write_bytes(small.data)
    whole = len(small.data.rstrip(b"\0"))  # without the padding at the end, which may be missing
    places = [*range(small.header), *range(small.header, whole, 8)]
    accepted = unclear = 0
    for size in reversed(places):
        os.truncate(path, size)
        error = outcome(path)
        accepted += isinstance(error, engine.Model)
        unclear += not is_clear(error, [path.name])
    observe("files", len(places))
    observe("accepted", accepted)
    observe("unclear_errors", unclear)


@pytest.mark.falsifies("FALSIFY-FILES-003")
def test_no_number_in_a_header_is_believed(observe, tmp_path, small):
    path, seen, slowest = tmp_path / "small.gguf", Seen(), 0.0
    tracemalloc.start()
    for data in overwritten_once(small):
        write(path, data)
        began = time.perf_counter()
        seen.judge(data, outcome(path))
        slowest = max(slowest, time.perf_counter() - began)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    observe("files", seen.files)
    observe("untyped_errors", seen.untyped)
    observe("misread", seen.misread(path))
    observe("peak_memory", peak / 2**20)
    observe("slowest", slowest)


def overwritten_once(good: Packed) -> Iterator[bytes]:
    """The file with each number of its header replaced by each boundary and by its neighbours."""
    for start, size in good.fields:
        old = int.from_bytes(good.data[start : start + size], "little")
        for value in {*BOUNDARIES, old + 1, max(0, old - 1)} - {old}:
            if value < 256**size:
                data = bytearray(good.data)
                data[start : start + size] = value.to_bytes(size, "little")
                yield bytes(data)


class Seen:
    """What damaged files gave: a typed error, or what an independent reader reads too."""

    def __init__(self) -> None:
        self.files = self.untyped = 0
        self.accepted: list[bytes] = []

    def judge(self, data: bytes, found: object) -> None:
        """`found` is what loading `data` gave."""
        self.files += 1
        if isinstance(found, engine.Model):
            self.accepted.append(data)
        else:
            self.untyped += not is_clear(found)

    def misread(self, path: Path) -> int:
        """How many of the accepted files the other reader reads otherwise."""
        return sum(not is_read_rightly(write(path, data)) for data in self.accepted)


@pytest.mark.falsifies("FALSIFY-FILES-004")
def test_damaged_files_are_refused_or_read_rightly(observe, tmp_path, small):
    path, seen = tmp_path / "small.gguf", Seen()

    @settings(THOROUGH, max_examples=500)
    @given(st.lists(edits(small), min_size=3, max_size=3))
    def damage(changes: list[Edit]) -> None:
        for some in (*([each] for each in changes), changes):  # each alone, and all together
            data = damaged(small, some)
            seen.judge(data, outcome(write(path, data)))

    damage()
    observe("files", seen.files)
    observe("accepted", len(seen.accepted))
    observe("untyped_errors", seen.untyped)
    observe("misread", seen.misread(path))


def damaged(good: Packed, changes: list[Edit]) -> bytes:
    data = bytearray(good.data)
    for change in changes:
        change(data)
    return bytes(data)


def edits(good: Packed) -> st.SearchStrategy[Edit]:
    """One change to the bytes: half are in the header, which is a seventh of the file."""
    place = st.integers(0, good.header - 1) | st.integers(0, len(good.data) - 1)
    length = st.integers(1, 64)
    return st.one_of(
        st.builds(flipped, place, st.integers(0, 7)),
        st.builds(overwritten, st.sampled_from(good.fields), st.sampled_from(BOUNDARIES)),
        st.builds(spliced, place, length, place, length),
        st.builds(copied, place, place, length),
        st.builds(cut, place),
    )


def flipped(at: int, bit: int) -> Edit:
    def change(data: bytearray) -> None:
        if at < len(data):
            data[at] ^= 1 << bit

    return change


def overwritten(place: tuple[int, int], value: int) -> Edit:
    start, size = place

    def change(data: bytearray) -> None:
        data[start : start + size] = (value % 256**size).to_bytes(size, "little")

    return change


def spliced(at: int, length: int, source: int, taken: int) -> Edit:
    """Some bytes are replaced by others of the file, perhaps more or fewer."""

    def change(data: bytearray) -> None:
        data[at : at + length] = data[source : source + taken]

    return change


def copied(at: int, source: int, length: int) -> Edit:
    return spliced(at, length, source, length)


def cut(at: int) -> Edit:
    def change(data: bytearray) -> None:
        del data[at:]

    return change


@pytest.mark.falsifies("FALSIFY-FILES-005")
@pytest.mark.parametrize("wrong", [bad_tensors, bad_containers])
def test_wrong_tensors_and_containers_are_refused(observe, tmp_path, wrong):
    refuse(observe, tmp_path / "bad.gguf", wrong())


@pytest.mark.falsifies("FALSIFY-FILES-006")
def test_wrong_metadata_is_refused(observe, tmp_path):
    refuse(observe, tmp_path / "bad.gguf", bad_metadata())


@pytest.mark.falsifies("FALSIFY-FILES-005")
def test_what_is_no_file_is_refused(observe, tmp_path):
    pipe, empty, text = (tmp_path / name for name in ("pipe", "empty", "text"))
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # or a reader that opens it would wait for ever
    empty.touch()
    text.write_text("GGUF is what this is not")
    names = [pipe, empty, text, tmp_path, tmp_path / "absent", tmp_path / ("x" * 300)]
    paths = [*names, Path("a\0b"), Path("/dev/null")]
    judge(observe, [(outcome(path), []) for path in paths])
    os.close(writer)


def refuse(observe, path: Path, cases: Iterator[tuple[Parts, list[str]]]) -> None:
    """Every one of the files must be refused, with the words that go with it."""
    judge(observe, [(outcome(write(path, parts.pack().data)), words) for parts, words in cases])


def judge(observe, found: list[tuple[object, list[str]]]) -> None:
    unclear = [(words, repr(error)) for error, words in found if not is_clear(error, words)]
    print(*unclear, sep="\n")
    observe("files", len(found))
    observe("accepted", sum(isinstance(error, engine.Model) for error, _ in found))
    observe("unclear_errors", len(unclear))


@pytest.mark.falsifies("FALSIFY-FILES-007")
def test_a_weight_that_is_not_finite_never_reaches_the_logits(observe, mixes):
    cases = silent = unclear = 0
    for path in mixes.values():
        for name, at, bad in not_finite(path):
            error = logits_with(path, at, bad)
            cases += 1
            silent += error is None
            unclear += error is not None and not is_clear(error, [name, "NaN"])
    observe("files", cases)
    observe("accepted", silent)
    observe("unclear_errors", unclear)


def not_finite(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """For one tensor of each type and role: its name, a place in its first block, and a NaN or
    infinity to be put there."""
    for tensor in GGUFReader(path).tensors:
        kind = tensor.tensor_type.name
        places, size = FLOATS_AT[kind]
        for high in {"F32": ("c07f", "807f"), "BF16": ("c07f", "807f")}.get(kind, ("007e", "007c")):
            for place in places:
                yield (
                    tensor.name,
                    tensor.data_offset + place,
                    bytes.fromhex(high).rjust(size, b"\0"),
                )


def logits_with(path: Path, at: int, bad: bytes) -> Exception | None:
    """What a forward pass raises while some bytes of the file are others."""
    with path.open("r+b") as file:
        file.seek(at)
        good = file.read(len(bad))
        file.seek(at)
        file.write(bad)
        file.flush()
        try:
            engine.load(path).forward([0, 1])
        except Exception as error:
            return error
        finally:
            file.seek(at)
            file.write(good)
    return None


@pytest.mark.falsifies("FALSIFY-FILES-008")
def test_opening_reads_no_tensor(observe, tmp_path):
    path = tmp_path / "large.gguf"
    write_sparse(path)
    before, began = resident(), time.perf_counter()
    model = outcome(path)
    observe("seconds", time.perf_counter() - began)
    observe("resident_growth", resident() - before)
    observe("tensors", len(getattr(model, "weights", ())))
    observe("file_size", path.stat().st_size / 2**30)


def write_sparse(path: Path) -> None:
    """The true header of a 30B-A3B file, and a hole of 17 GiB for its tensors."""
    good = small_parts().without("tokenizer.ggml.tokens", "tokenizer.ggml.scores")
    for key, value in LARGE.items():
        good = good.saying(f"qwen3moe.{key}", U32, value)
    specs = list(tensor_specs("qwen3moe", SHAPES["qwen3-30b-a3b"], LARGE["vocab_size"]))
    types = {"F32": 0, "Q4_K": 12, "Q6_K": 14}
    tensors = [Part(s.name, s.shape, types[s.type], range(s.bytes)) for s in specs]
    header = replace(good, tensors=tuple(tensors)).header().data
    path.write_bytes(header)
    os.truncate(path, len(header) + sum(spec.bytes for spec in specs))  # all are multiples of 32


LARGE = {
    "vocab_size": 151936,
    "context_length": 262144,
    "block_count": 48,
    "embedding_length": 2048,
    "attention.head_count": 32,
    "attention.head_count_kv": 4,
    "attention.key_length": 128,
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 768,
}


@pytest.mark.falsifies("FALSIFY-FILES-009")
def test_the_real_vocabulary_is_read_whole_and_quickly(observe):
    began = time.perf_counter()
    metadata = engine.open_checkpoint(os.environ["QWEN2_VOCAB_GGUF_PATH"]).metadata
    observe("seconds", time.perf_counter() - began)
    tokens, merges = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "merges"))
    known = set(tokens)
    observe("distinct_tokens", len(known))
    observe("merges", len(merges))
    outside = sum(
        not {left, right, left + right} <= known
        for left, _, right in (merge.partition(" ") for merge in merges)
    )
    observe("merges_of_no_tokens", outside)
    observe("last_token", tokens[metadata["tokenizer.ggml.eos_token_id"]])


@pytest.mark.falsifies("FALSIFY-FILES-010")
def test_a_file_is_mapped_in_large_pages(observe, tiny):
    checkpoint = engine.open_checkpoint(tiny)
    mappings, mine = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            mine = line.endswith(str(checkpoint.path.resolve()))
        elif mine and line.startswith("VmFlags:"):
            mappings.append("hg" in line.split())
    observe("mappings", len(mappings))
    observe("in_small_pages", mappings.count(False))
