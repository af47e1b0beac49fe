"""A teacher's cache: its bytes, its size, what a stopped run leaves, and whom it answers.

Oracles: a scripted teacher that counts what it is asked, and float64 softmax.
"""

import json
import math
import shutil
from pathlib import Path

import pytest

from engine.distill import precompute as writing
from engine.distill import topk
from engine.distill.data import Synthetic
from engine.distill.precompute import precompute
from engine.distill.teachers import CachedTeacher, open_teacher
from falsifiers.differences import differing
from falsifiers.in_process import Command
from falsifiers.provider_cases import Scripted, contents, refusal, write_shards
from falsifiers.threads import one_thread  # noqa: F401 (a fixture)


@pytest.fixture
def command(capsys, monkeypatch) -> Command:
    return Command(capsys, monkeypatch)


def caches(tmp_path: Path, source: Synthetic, teacher: Scripted, k: int = 64) -> list[Path]:
    """The same cache twice."""
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        precompute(teacher, source, folder, k=k, batch=3)
    return folders


@pytest.fixture
def small_files(monkeypatch):
    """Three windows of 8 tokens in a shard, where 64 tokens are kept."""
    monkeypatch.setattr(topk, "SHARD_BYTES", 3 * 8 * 64 * topk.NUMBER_BYTES)


@pytest.mark.falsifies("F-DISTILL-CACHE-001")
@pytest.mark.parametrize("windows", [1, 7, 12])
def test_a_caches_bytes_and_size_are_known(observe, small_files, tmp_path, windows):
    source, teacher = Synthetic(8, vocabulary_size=300, windows=windows), Scripted()
    predicted = writing.recipe_of(teacher, source, 64).bytes()
    one, other = caches(tmp_path, source, teacher)
    observe(
        "differing_files", differing(sorted(contents(one).items()), sorted(contents(other).items()))
    )
    sizes = [path.stat().st_size for path in one.glob("*.safetensors")]
    observe("bytes_off", abs(predicted - sum(sizes)))
    manifest = json.loads((one / "manifest.json").read_text())
    observe("bytes_off", abs(predicted - manifest["bytes"]))
    mass = mean_mass(teacher, source)
    observe("kept_mass_off", abs(manifest["kept_mass"] - mass))
    observe("files_off", abs(len(sizes) - math.ceil(windows / 3)))


def mean_mass(teacher: Scripted, source: Synthetic) -> float:
    """How much of the probability the 64 best have, in float64."""
    shares = teacher.logits(source.take(range(len(source)))).double().softmax(dim=-1)
    return float(shares.sort(dim=-1, descending=True).values[..., :64].sum(dim=-1).mean())


@pytest.mark.falsifies("F-DISTILL-CACHE-002")
@pytest.mark.parametrize("stop_at", [0, 2, 3, 10])
def test_a_run_that_was_stopped_goes_on_where_it_was(observe, small_files, tmp_path, stop_at):
    source, whole = Synthetic(8, vocabulary_size=300, windows=11), tmp_path / "whole"
    precompute(Scripted(), source, whole, batch=2)
    folder, teacher = tmp_path / "stopped", Scripted()
    teacher.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        precompute(teacher, source, folder, batch=2)
    observe(
        "unfinished_caches_read", int("not finished" not in refusal(lambda: CachedTeacher(folder)))
    )
    damage(folder)
    again = Scripted()
    precompute(again, source, folder, batch=2)
    observe(
        "differing_files",
        differing(sorted(contents(folder).items()), sorted(contents(whole).items())),
    )
    finished = max(0, stop_at // 3 - 1) * 3  # of the shards that were there, one was damaged
    observe("windows_asked_again", len(again.asked) - (11 - finished))


def damage(folder: Path) -> None:
    """Flip a bit of the last shard's numbers, and leave a torn file beside it."""
    shards = sorted(folder.glob("*.safetensors"))
    if shards:
        data = bytearray(shards[-1].read_bytes())
        data[-7] ^= 1
        shards[-1].write_bytes(data)
    (folder / "windows-000000009.safetensors.partial").write_bytes(b"torn")


@pytest.mark.falsifies("F-DISTILL-CACHE-003")
def test_a_cache_answers_for_what_it_was_made_of_alone(observe, small_files, tmp_path):
    source, folder = Synthetic(8, vocabulary_size=300, windows=5), tmp_path / "cache"
    precompute(Scripted(), source, folder)
    cached = open_teacher(folder, data=source)
    other = Synthetic(8, vocabulary_size=300, windows=5, seed=1)
    longer = Synthetic(9, vocabulary_size=300, windows=5)
    torn = Path(shutil.copytree(folder, tmp_path / "torn"))
    damage(torn)
    tries = {
        "data": lambda: open_teacher(folder, data=other),
        "windows of 9": lambda: open_teacher(folder, data=longer),
        "a batch of": lambda: cached.logits(other.batch(0, 1)),
        "another teacher": lambda: precompute(Scripted(seed=1), source, folder),
        "other data": lambda: precompute(Scripted(), other, folder),
        "another size": lambda: precompute(Scripted(), source, folder, k=63),
        "numbers": lambda: CachedTeacher(torn).logits(source.take(range(5))),
        "manifest": lambda: precompute(Scripted(), source, write_shards(tmp_path / "data", [1])),
        "not finite": lambda: precompute(Scripted(sharpness=math.nan), source, tmp_path / "nan"),
        "1 to 300": lambda: precompute(Scripted(), source, tmp_path / "large", k=301),
    }
    said = {word: refusal(call) for word, call in tries.items()}
    observe("accepted", sum(not text for text in said.values()))
    observe("unclear_refusals", sum(word not in text for word, text in said.items()))
    observe("good_refused", int(bool(refusal(lambda: cached.logits(source.batch(9, 2))))))


@pytest.mark.falsifies("F-DISTILL-CACHE-004")
def test_a_caches_size_is_said_and_there_is_room_for_it(observe, monkeypatch, tmp_path, command):
    data = write_shards(tmp_path / "data", [i % 500 for i in range(300)])
    free = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    out = tmp_path / "cache"
    options = ("--teacher", "fixture", "--data", data, "--seq-len", 16, "--out", out)
    options = (*options, "--held-out", 0.2)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: free)
        asked = Scripted(vocabulary_size=500)
        large = Synthetic(16, vocabulary_size=500, windows=1000)
        observe(
            "too_large_accepted", int("room" not in refusal(lambda: precompute(asked, large, out)))
        )
        observe("asked_before_the_refusal", len(asked.asked))
    shutil.rmtree(out)
    dry = command("distill", "precompute", *options, "--dry-run", "--json", "-")
    predicted = json.loads(dry.out)["bytes"]
    observe("written_by_a_dry_run", int(out.exists()))
    ran = command("distill", "precompute", *options)
    sizes = [path.stat().st_size for path in out.glob("*.safetensors")]
    observe("bytes_off", abs(predicted - sum(sizes)))
    observe("sizes_unsaid", sum(f"{predicted:,} bytes" not in text for text in (dry.err, ran.err)))
    observe("wrong_exit_codes", abs(dry.code) + abs(ran.code))
