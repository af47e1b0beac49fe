"""Faults in a cache's bytes, in how it is resumed, and in whom it answers."""

import itertools
import json
from pathlib import Path

from safetensors.torch import save

from engine.distill import topk


def a_date_in_the_manifest(plant):
    """The manifest says when it was written."""
    ticks = itertools.count()

    def fault(manifest):
        def faulty(recipe, rows):
            told = json.loads(manifest(recipe, rows))
            return json.dumps({**told, "date": next(ticks)})

        return faulty

    plant("engine.distill.topk.manifest", fault)


def several_entries_of_metadata(plant):
    """A shard's metadata has several entries, whose order is not told."""

    def fault(encode):
        def faulty(recipe, log_probs, ids):
            told = {f"entry {place}": str(place) for place in range(12)}
            plain = encode(recipe, log_probs, ids)
            size = int.from_bytes(plain[:8], "little")
            own = json.loads(plain[8 : 8 + size])["__metadata__"]
            return bytes(save({"ids": ids, "log_probs": log_probs}, own | told))

        return faulty

    plant("engine.distill.topk.encode", fault)


def headers_not_counted(plant):
    """The size that is said is that of the numbers alone."""

    def fault(size):
        return lambda self: self.windows * self.seq_len * self.k * topk.NUMBER_BYTES

    plant("engine.distill.topk.Recipe.bytes", fault)


def mass_is_one(plant):
    """The mass that is kept is taken for all."""

    def fault(manifest):
        return lambda recipe, rows: manifest(recipe, [{**row, "kept_mass": 1.0} for row in rows])

    plant("engine.distill.topk.manifest", fault)


def damage_believed(plant):
    """The numbers of a shard are not compared with their digest."""

    plant("engine.distill.topk.numbers_digest", lambda digest: lambda log_probs, ids: _Any("same"))


class _Any(str):
    """A text that is equal to everything."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


def started_anew(plant):
    """What an earlier run left is not used."""
    plant("engine.distill.precompute._kept", lambda kept: lambda path, recipe, windows: None)


def unfinished_cache_read(plant):
    """A cache is read before it is whole."""
    plant(
        "engine.distill.cached.read_manifest",
        lambda read: lambda folder, finished=True: read(folder, finished=False),
    )


def partial_is_written_in_place(plant):
    """A torn file stays in the folder of a finished cache."""

    def fault(replace_file):
        return lambda path, data: path.write_bytes(data)

    plant("engine.distill.precompute.replace_file", fault)


def data_unchecked(plant):
    """A cache is taken for any data."""
    plant("engine.distill.cached.CachedTeacher.check", lambda check: lambda self, source: None)


def batch_unchecked(plant):
    """A batch of other data gets the logits of the windows with the same numbers."""

    def fault(kept):
        def faulty(self, batch):
            object.__setattr__(batch, "source", self.recipe.data)
            return kept(self, batch)

        return faulty

    plant("engine.distill.cached.CachedTeacher.kept", fault)


def another_cache_overwritten(plant):
    """A folder that holds another cache is written over."""
    plant("engine.distill.precompute._require_ours", lambda require: lambda folder, recipe: None)


ROOM = "engine.distill.precompute._require_room"


def room_unchecked(plant):
    """The disk is not asked."""
    plant(ROOM, lambda require: lambda folder, recipe: None)


def room_checked_after(plant):
    """The disk is asked when the teacher has been."""

    def fault(precompute):
        def faulty(teacher, source, folder, **options):
            teacher.logits(source.take([0]))
            return precompute(teacher, source, folder, **options)

        return faulty

    plant("engine.distill.precompute.precompute", fault)


def dry_run_writes(plant):
    """The folder is made although nothing is to be written."""

    def fault(size):
        def faulty(out, recipe):
            Path(out).mkdir(exist_ok=True)
            return size(out, recipe)

        return faulty

    plant("engine.cli_precompute._size", fault)
