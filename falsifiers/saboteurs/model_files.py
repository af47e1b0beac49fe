"""Faults in the reading of GGUF files: each believes something that a file says, or skips a check.

A good file loads as before under most of them, which is how they get into real readers.
"""

import numpy as np
import torch

from engine.errors import FormatError
from engine.gguf import RawTensor, _aligned


def alignment_ignored(plant):
    """Tensors are looked for at multiples of 32 bytes, whatever the file says."""
    plant("engine.gguf._alignment", lambda alignment: lambda metadata: 32)


def unsigned_64_bits_read_as_signed(plant):
    """A u64 above 2^63 comes out negative."""

    def fault(dtype):
        return lambda kind, where: np.dtype("<i8") if kind == 10 else dtype(kind, where)

    plant("engine.gguf._dtype", fault)


def shape_in_file_order(plant):
    """Shapes keep the file's order, the row length first."""

    def fault(infos):
        def faulty(*args):
            return {n: i._replace(shape=i.shape[::-1]) for n, i in infos(*args).items()}

        return faulty

    plant("engine.gguf._infos", fault)


def text_read_as_latin_1(plant):
    """Strings are decoded as Latin-1, which never fails."""

    def faulty(self, where, most=None):
        return self.take(self.count(where, 1, most), where).decode("latin-1")

    plant("engine.cursor.Cursor.string", lambda string: faulty)


def bad_utf_8_leaks(plant):
    """What is not UTF-8 raises Python's own error."""

    def faulty(self, where, most=None):
        return self.take(self.count(where, 1, most), where).decode()

    plant("engine.cursor.Cursor.string", lambda string: faulty)


def long_arrays_cut(plant):
    """An array of strings ends after 65,536 of them."""
    plant(
        "engine.cursor.Cursor.strings",
        lambda strings: lambda self, count, where: strings(self, count, where)[: 1 << 16],
    )


def end_of_file_not_checked(plant):
    """Bytes are taken whether or not they are there."""

    def faulty(self, size, where):
        self.at += size
        return self.data[self.at - size : self.at]

    plant("engine.cursor.Cursor.take", lambda take: faulty)


def counts_believed(plant):
    """Room is made for as many things as the file says are to come."""

    def faulty(self, what, size, most=None):
        count = self.number("<Q", what)
        self.room = bytearray(min(count, 1 << 26))
        return count

    plant("engine.cursor.Cursor.count", lambda count: faulty)


def short_tensor_filled_with_zeros(plant):
    """A tensor whose last bytes are not in the file gets zeros for them."""

    def fault(tensor):
        def faulty(self, name, rest):
            return tensor(self, name, np.concatenate([rest, np.zeros(1 << 16, np.uint8)]))

        return faulty

    plant("engine.gguf._Info.tensor", fault)


def _unchecked(data, infos, header, alignment, *, offsets):
    """Tensors where their offsets say, or one after the other; nothing is said of what is left."""
    buffer, base, end = np.frombuffer(data, np.uint8), _aligned(header, alignment), 0
    tensors = {}
    for name, info in infos.items():
        start = info.offset if offsets else end
        if info.offset != start:
            raise FormatError(f"{name}: found offset {info.offset}, expected {start}")
        tensors[name] = info.tensor(name, buffer[base + start :])
        end += _aligned(tensors[name].bytes, alignment)
    return tensors


def offsets_believed(plant):
    """A tensor's bytes are taken from where its offset says, be they another's."""
    plant(
        "engine.gguf._tensors",
        lambda tensors: lambda *args: _unchecked(*args, offsets=True),
    )


def rest_of_file_ignored(plant):
    """Bytes after the last tensor are nobody's business: a tensor that is not named, perhaps."""

    def fault(tensors):
        def faulty(data, infos, header, alignment):
            size = sum(_aligned(_size(info), alignment) for info in infos.values())
            return tensors(data[: _aligned(header, alignment) + size], infos, header, alignment)

        return faulty

    plant("engine.gguf._tensors", fault)


def _size(info):
    try:
        return info.tensor("", np.empty(1 << 20, np.uint8)).bytes
    except Exception:  # the original will say it
        return 0


def duplicate_keys_last_win(plant):
    """Of two metadata entries with one key the last counts."""

    def fault(metadata):
        def faulty(header, count):
            found = {}
            for _ in range(count):
                found |= metadata(header, 1)
            return found

        return faulty

    plant("engine.gguf._metadata", fault)


def extra_tensors_ignored(plant):
    """A tensor that the architecture does not have is passed over, a bias perhaps."""

    def fault(check_tensors):
        def faulty(config, tensors):
            from engine.layout import tensor_shapes

            known = {"output.weight", *dict(tensor_shapes(config))}
            check_tensors(config, {n: t for n, t in tensors.items() if n in known})

        return faulty

    plant("engine.layout.check_tensors", fault)


def shapes_not_compared(plant):
    """Any shape will do, if the tensor is there."""
    plant("engine.layout._check_tensor", lambda check: lambda name, tensor, shape: None)


def text_taken_for_a_number(plant):
    """A hyperparameter is whatever `int` makes of it: of "32", of True, of -1."""

    def fault(count):
        def faulty(self, key, most=0):
            try:
                return int(self.get(key))
            except (TypeError, ValueError, OverflowError):
                return count(self, key)

        return faulty

    plant("engine.config._Keys.count", fault)


def layers_have_no_limit(plant):
    """Something is made for each of the layers that a file claims to have."""
    plant("engine.config._Keys.count", lambda count: lambda self, key, most=0: count(self, key))


def nan_is_a_number(plant):
    """The range of a number is checked by comparisons that NaN passes."""

    def fault(number):
        def faulty(self, key, low, high, default=None):
            value = self.get(key)
            if isinstance(value, float) and not (value < low or value > high):
                return value
            return number(self, key, low, high, default)

        return faulty

    plant("engine.config._Keys.number", fault)


def missing_rope_base_is_1e4(plant):
    """A file without a RoPE base gets the usual one."""

    def fault(get):
        def faulty(self, key):
            found = get(self, key)
            return 1e4 if found is None and key == "rope.freq_base" else found

        return faulty

    plant("engine.config._Keys.get", fault)


def not_finite_accepted(plant):
    """Nobody looks whether decoded weights are finite."""
    plant("engine.weights.require_finite", lambda guard: lambda weight, x: None)


def only_the_last_number_checked(plant):
    """The guard looks at one number, as a sum that was sliced too early would."""
    plant(
        "engine.weights.require_finite",
        lambda guard: lambda weight, x: guard(weight, x.flatten()[-1:]),
    )


def nan_becomes_zero(plant):
    """NaN and infinity are silently replaced when blocks are decoded."""
    plant(
        "engine.quant.dequantise",
        lambda dequantise: lambda *args: torch.nan_to_num(dequantise(*args)),
    )


def tensors_read_when_opened(plant):
    """Opening a file looks into every tensor, as a checksum would."""

    def fault(tensor):
        def faulty(self, name, rest) -> RawTensor:
            found = tensor(self, name, rest)
            found.parts[0][: 1 << 18].max()
            return found

        return faulty

    plant("engine.gguf._Info.tensor", fault)


def mapped_in_small_pages(plant):
    """A file is mapped as any other, in the smallest pages."""
    plant("engine.gguf.in_large_pages", lambda asked: lambda memory: memory)
