"""Faults in how data and teachers are told apart, split and refused."""

import hashlib
from pathlib import Path

import numpy as np

from engine.errors import FormatError

OPEN_DATA = "engine.distill.data.open_data"


def held_out_leaks(plant):
    """What is held out is learned from too."""

    def fault(open_data):
        def faulty(folder, seq_len, **options):
            train, judge = open_data(folder, seq_len, **options)
            train._start, train._stop = 0, len(train._stream)
            return train, judge

        return faulty

    plant(OPEN_DATA, fault)


def last_window_reaches_over(plant):
    """The last window of a part goes on into the next part."""

    def fault(tokens):
        def faulty(self, windows):
            starts = [self._start + window * self.seq_len for window in windows]
            last = len(self._stream) - self.seq_len - 1
            rows = [self._stream.read(min(start, last), self.seq_len + 1) for start in starts]
            return np.stack(rows)

        return faulty

    plant("engine.distill.data.Shards.tokens", fault)


def corpus_halves_ignored(plant):
    """A corpus that is cut by file is learned from and judged by as one."""

    def fault(open_data):
        def faulty(folder, seq_len, **options):
            inner = Path(folder) / "train"
            return open_data(inner if inner.is_dir() else folder, seq_len, **options)

        return faulty

    plant(OPEN_DATA, fault)


def one_language_one_text(plant):
    """The held-out windows of the synthetic source are those that are learned from."""

    def fault(init):
        def faulty(self, *args, **options):
            init(self, *args, **options)
            self._salt = 0

        return faulty

    plant("engine.distill.data.Synthetic.__init__", fault)


def odd_bytes_dropped(plant):
    """Bytes after the last whole token are left out without a word."""

    def fault(opened):
        def faulty(path):
            try:
                return opened(path)
            except FormatError:
                data = path.read_bytes()
                return np.frombuffer(data[: len(data) // 4 * 4], "<u4")

        return faulty

    plant("engine.distill.stream._open", fault)


def tokens_unchecked(plant):
    """Tokens beyond the vocabulary go through."""
    plant("engine.distill.stream._check", lambda check: lambda *args: None)


def first_shard_checked_alone(plant):
    """Only the first file is looked at."""

    def fault(check):
        return lambda path, *args: check(path, *args) if path.name == "00.bin" else None

    plant("engine.distill.stream._check", fault)


def shorter_windows_taken(plant):
    """Where the stream is too short for a window, a shorter one is taken."""

    def fault(init):
        def faulty(self, folder, seq_len, **options):
            try:
                init(self, folder, seq_len, **options)
            except FormatError:
                init(self, folder, 3, **options)

        return faulty

    plant("engine.distill.data.Shards.__init__", fault)


DIGEST = "engine.distill.data.Shards.digest"


def data_digest_of_the_path(plant):
    """The digest of data is that of where it lies."""
    plant(DIGEST, lambda digest: lambda self: f"{self._stream.folder} {digest(self)}")


def data_digest_of_the_size(plant):
    """Data of one size is taken for equal."""
    plant(DIGEST, lambda digest: lambda self: f"{self._start} {self._stop} {self.seq_len}")


def window_left_out_of_digest(plant):
    """Windows of another size are taken for the same data."""
    plant(DIGEST, lambda digest: lambda self: f"{self._stream.digest} {self._start} {self._stop}")


def synthetic_is_noise(plant):
    """Any token may follow any other."""

    def fault(tokens):
        def faulty(self, windows):
            drawn = np.stack([self._drawn(window) for window in windows])
            return (drawn % self.vocabulary_size).astype(np.int64)

        return faulty

    plant("engine.distill.data.Synthetic.tokens", fault)


def held_out_speaks_another_language(plant):
    """The held-out windows have other followers."""

    def fault(init):
        def faulty(self, *args, held_out=False, **options):
            init(self, *args, held_out=held_out, **options)
            if held_out:
                self._next = np.roll(self._next, 1, axis=0)

        return faulty

    plant("engine.distill.data.Synthetic.__init__", fault)


MODEL = "engine.distill.digest.content_digest"


def model_digest_of_the_path(plant):
    """The digest of a model is that of where it lies."""
    plant(MODEL, lambda digest: lambda checkpoint: str(checkpoint.path))


def model_digest_of_the_shapes(plant):
    """Models of one architecture and one size are taken for equal."""

    def fault(line):
        return lambda entry: f"\n{entry[0]} {entry[1].type} {entry[1].shape}"

    plant("engine.distill.digest._line", fault)


def config_left_out_of_digest(plant):
    """Models that compute otherwise with the same tensors are taken for equal."""

    def fault(digest):
        def faulty(checkpoint):
            made = hashlib.sha256()
            for name, tensor in sorted(checkpoint.tensors.items()):
                made.update(name.encode())
                for part in tensor.parts:
                    made.update(part)
            return made.hexdigest()

        return faulty

    plant(MODEL, fault)


CHECK = "engine.distill.teachers.ModelTeacher.check"


class _Seen:
    """A source that says other things of itself."""

    def __init__(self, source, **changes):
        self.seq_len, self.vocabulary_size = source.seq_len, source.vocabulary_size
        self.vocabulary = source.vocabulary
        self.__dict__.update(changes)


def context_unchecked(plant):
    """Windows longer than the teacher's context are found when the first one is asked about."""
    plant(CHECK, lambda check: lambda self, source: check(self, _Seen(source, seq_len=1)))


def corpus_tokens_unchecked(plant):
    """A corpus of other tokens is taken."""
    plant(CHECK, lambda check: lambda self, source: check(self, _Seen(source, vocabulary=None)))


def teacher_unchecked(plant):
    """No teacher is checked against the data."""
    plant(CHECK, lambda check: lambda self, source: None)
