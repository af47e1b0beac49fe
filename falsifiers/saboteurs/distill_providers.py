"""Faults in what reaches a student: windows, labels, logits, vocabularies, a cache's contents."""

from dataclasses import replace

import numpy as np
import torch

from engine.distill.data import Batch

LOGITS = "engine.distill.teachers.ModelTeacher.logits"


def teacher_off_by_one(plant):
    """Each position has the logits of the one before it."""
    plant(LOGITS, lambda logits: lambda self, batch: logits(self, batch).roll(1, dims=1))


def last_position_for_all(plant):
    """Each position has the logits of the last one."""

    def fault(logits):
        def faulty(self, batch):
            made = logits(self, batch)
            return made[:, -1:].expand_as(made)

        return faulty

    plant(LOGITS, fault)


def windows_change_places(plant):
    """The logits of a batch's windows come in another order."""
    plant(LOGITS, lambda logits: lambda self, batch: logits(self, batch).flip(0))


def teacher_reads_labels(plant):
    """The teacher is shown what comes next."""
    plant(LOGITS, lambda logits: lambda self, b: logits(self, replace(b, inputs=b.labels)))


def every_teacher_is_plain(plant):
    """Whatever route was asked for, the teacher takes the plain one, whose rounding is another."""

    def fault(from_checkpoint):
        def faulty(cls, name, checkpoint, device="cpu", route="auto"):
            return from_checkpoint(cls, name, checkpoint, device, "plain")

        return faulty

    plant("engine.distill.teachers.ModelTeacher.from_checkpoint", fault)


def hidden_unnormed(plant):
    """The hidden states are not those that the output matrix takes."""

    def fault(hidden):
        return lambda self, batch: hidden(self, batch) * torch.linspace(0.5, 1.5, 256)

    plant("engine.distill.teachers.ModelTeacher.hidden", fault)


def _at_align(plant, faulty):
    plant(
        "engine.distill.vocabulary.align",
        lambda align: lambda logits, size: faulty(align, logits, size),
    )


def cut_after_softmax(plant):
    """What is cut are probabilities, which then no longer sum to 1."""
    _at_align(plant, lambda align, logits, size: align(logits.softmax(dim=-1), size))


def surplus_kept(plant):
    """Nothing is cut."""
    _at_align(plant, lambda align, logits, size: align(logits, logits.shape[-1]))


def cut_from_the_front(plant):
    """The first rows are cut, and not the last."""
    _at_align(plant, lambda align, logits, size: logits[..., logits.shape[-1] - size :])


def cut_copies(plant):
    """The cut copies all that is left."""
    _at_align(plant, lambda align, logits, size: align(logits, size).clone())


def larger_student_padded(plant):
    """A student may have more tokens than its teacher."""
    plant("engine.distill.vocabulary.require_cover", lambda require: lambda teacher, student: None)


def _at_meanings(plant, fault):
    plant("engine.distill.vocabulary._meanings", fault)


def sizes_compared_alone(plant):
    """All tokens are taken for equal."""
    _at_meanings(plant, lambda meanings: lambda t: [(b"x", False)] * len(meanings(t)))


def first_tokens_compared_alone(plant):
    """Only the bytes, which every vocabulary begins with, are compared."""
    _at_meanings(plant, lambda meanings: lambda t: meanings(t)[:256])


def control_ignored(plant):
    """A control token and a text that is spelt like it are taken for equal."""
    _at_meanings(plant, lambda meanings: lambda t: [(spelt, False) for spelt, _ in meanings(t)])


def fillers_compared(plant):
    """A filler stands for its own spelling."""

    def fault(meanings):
        def faulty(tokenizer):
            found = meanings(tokenizer)
            size = str(len(found)).encode()
            return [(spelt or size, control) for spelt, control in found]

        return faulty

    _at_meanings(plant, fault)


def digest_of_fillers(plant):
    """The digest of a vocabulary depends on the object, and not on its tokens."""
    plant("engine.distill.vocabulary.vocabulary_digest", lambda digest: lambda t: str(id(t)))


def cache_forgets_its_tokens(plant):
    """A cache does not say which tokens its teacher had."""

    def fault(recipe_of):
        return lambda *args: replace(recipe_of(*args), vocabulary=None)

    plant("engine.distill.precompute.recipe_of", fault)


KEPT = "engine.distill.vocabulary.align_kept"


def kept_surplus_is_zero(plant):
    """A kept logit of a token that the student lacks becomes 0, which is a likely one."""

    def fault(align_kept):
        def faulty(logits, ids, size):
            kept, aligned = align_kept(logits, ids, size)
            return kept.nan_to_num(neginf=0.0), aligned

        return faulty

    plant(KEPT, fault)


def kept_ids_beyond(plant):
    """An id that the student lacks stays, where its loss would look it up."""

    def fault(align_kept):
        return lambda logits, ids, size: (align_kept(logits, ids, size)[0], ids)

    plant(KEPT, fault)


def emptied_position_accepted(plant):
    """A position that keeps nothing is all -inf, and NaN after softmax."""

    def fault(align_kept):
        def faulty(logits, ids, size):
            beyond = ids >= size
            return logits.masked_fill(beyond, -float("inf")), ids.masked_fill(beyond, 0)

        return faulty

    plant(KEPT, fault)


MOST = "engine.distill.precompute._most_probable"


def one_token_kept(plant):
    """Only the most probable token is kept; the other places repeat a hopeless one."""

    def fault(most):
        def faulty(log_probs, k):
            values, ids = most(log_probs, k)
            values[..., 1:] = -1000.0
            return values, ids

        return faulty

    plant(MOST, fault)


def least_probable_kept(plant):
    """The order is upside down."""
    plant(MOST, lambda most: lambda log_probs, k: most(-log_probs, k))


def ids_of_the_neighbour(plant):
    """The ids are those of the position before."""

    def fault(most):
        def faulty(log_probs, k):
            values, ids = most(log_probs, k)
            return values, ids.roll(1, dims=1)

        return faulty

    plant(MOST, fault)


def renormalisation_missing(plant):
    """What was not kept has the logit of the least that was, so that it takes its share."""

    def fault(logits):
        def faulty(self, batch):
            made = logits(self, batch)
            least = self.kept(batch)[0].min(dim=-1, keepdim=True).values
            return torch.where(made.isinf(), least, made)

        return faulty

    plant("engine.distill.cached.CachedTeacher.logits", fault)


def cache_of_the_next_window(plant):
    """Each window is answered for by the one after it."""

    def fault(row):
        return lambda self, window: row(self, (window + 1) % self.recipe.windows)

    plant("engine.distill.cached.CachedTeacher._row", fault)


TAKE = "engine.distill.data._Windows.take"


def label_is_input(plant):
    """Each token is its own label."""

    def fault(take):
        def faulty(self, windows, step=0):
            batch = take(self, windows, step)
            return replace(batch, labels=batch.inputs)

        return faulty

    plant(TAKE, fault)


def label_one_too_far(plant):
    """Each label is the token after the next one."""

    def fault(take):
        def faulty(self, windows, step=0):
            batch: Batch = take(self, windows, step)
            return replace(batch, labels=batch.labels.roll(-1, dims=1))

        return faulty

    plant(TAKE, fault)


def shard_order_reversed(plant):
    """The shards come in the opposite order of their names."""

    def fault(init):
        def faulty(self, folder, vocabulary_size):
            init(self, folder, vocabulary_size)
            self._shards.reverse()
            self._ends = list(np.cumsum([len(shard) for shard in self._shards]).tolist())

        return faulty

    plant("engine.distill.stream.Stream.__init__", fault)


def tail_dropped(plant):
    """Tokens after the last whole window are never seen."""
    plant(
        "engine.distill.data.Shards.__len__",
        lambda length: lambda self: (self._stop - self._start - 1) // self.seq_len,
    )


def tail_wraps_to_the_start(plant):
    """The last window is filled up with the first tokens, which never followed."""

    def fault(tokens):
        def faulty(self, windows):
            made = tokens(self, windows)
            for row, window in zip(made, windows, strict=True):
                start = self._start + window * self.seq_len
                places = np.arange(start, start + self.seq_len + 1) % self._stop
                row[:] = np.concatenate([self._stream.read(int(at), 1) for at in places])
            return made

        return faulty

    plant("engine.distill.data.Shards.tokens", fault)


def endian_swapped(plant):
    """Tokens are read as big-endian, and none is too large."""

    def fault(read):
        return lambda self, start, count: read(self, start, count).astype(np.uint32).byteswap()

    plant(
        "engine.distill.stream.Stream.read",
        lambda read: lambda *args: fault(read)(*args).astype(np.int64),
    )


def each_shard_by_itself(plant):
    """What follows the last token of a shard is its own first one."""

    def fault(read):
        def faulty(self, start, count):
            made, at = read(self, start, count), 0
            for end, shard in zip(self._ends, self._shards, strict=True):
                if start < end < start + count and len(shard):
                    at = end - start
                    made[at] = shard[0]
            return made

        return faulty

    plant("engine.distill.stream.Stream.read", fault)


ORDER = "engine.distill.data._order"


def order_by_calls(plant):
    """The order goes on where the last call left it, whatever the step."""
    calls = []

    def fault(batch):
        def faulty(self, step, size):
            calls.append(step)
            return replace(batch(self, len(calls) - 1, size), step=step)

        return faulty

    plant("engine.distill.data._Windows.batch", fault)


def one_order_for_all_epochs(plant):
    """Every epoch has the order of the first."""
    plant(ORDER, lambda order: lambda count, seed, epoch: order(count, seed, 0))


def drawn_with_replacement(plant):
    """Windows are drawn, so that an epoch has some twice and others not at all."""
    plant(ORDER, lambda order: lambda *args: order(*args) // 2)


def window_seed_ignored(plant):
    """Every seed gives the same order."""
    plant(ORDER, lambda order: lambda count, seed, epoch: order(count, 0, epoch))
