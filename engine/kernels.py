"""The compiled kernels: where the library is, which instruction paths it has, calls on tensors.

Knows the C functions of `_kernels.c` and checks every shape before it calls them; knows nothing of
models. Threads are as many as torch uses. Without the library, which needs a C compiler when the
package is installed, `library` raises `EngineError`.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from math import prod
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from engine.errors import EngineError, TensorError
from engine.quant import TYPES as BLOCK_TYPES
from engine.quant import row_bytes
from engine.weights import Blocks, Weight, require_data, require_finite

PATHS = ("portable", "avx2", "avx512")  # by their number in `_kernels.c`, the fastest last
TYPES = ("Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")  # likewise
KEPT = 1 << 20  # bytes of scratch memory that are kept from call to call: enough for a token's

Pointer = ctypes.c_void_p
Size = ctypes.c_int64


class Matrix(ctypes.Structure):
    """Where the blocks of a weight [rows, columns] lie, or of a stack of them."""

    _fields_ = (("data", Pointer), ("type", Size), ("rows", Size), ("columns", Size))

    @property
    def block(self) -> int:
        """Weights of a block: so many activations have one scale."""
        return BLOCK_TYPES[TYPES[self.type]].size


class Attention(ctypes.Structure):
    """How the heads of a layer lie in a cache of `length` filled positions; gains may be None."""

    _fields_ = (
        *((name, Size) for name in ("heads", "kv_heads", "size", "window", "length", "stride")),
        ("q_gain", Pointer),
        ("k_gain", Pointer),
        ("epsilon", ctypes.c_float),
    )


class Layer(ctypes.Structure):
    """The weights of a layer as C takes them; biases and router may be None."""

    _fields_ = (
        ("attn_norm", Pointer),
        ("ffn_norm", Pointer),
        ("bias", Pointer * 3),
        ("router", Pointer),
        ("projection", Matrix * 3),
        ("output", Matrix),
        ("gate", Matrix),
        ("up", Matrix),
        ("down", Matrix),
        ("attention", Attention),
        ("experts", Size),
        ("used", Size),
    )


@cache
def library(folder: Path = Path(__file__).parent) -> ctypes.CDLL:
    """The compiled library in `folder`."""
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_kernels{suffix}"
        if path.exists():
            return bind(path)
    raise EngineError(
        "the kernels are not compiled; with a C compiler, `pip install` of this package makes them"
    )


def bind(path: Path) -> ctypes.CDLL:
    """Open a library made from `_kernels.c` and declare its functions."""
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(f"{path}: found {error}, expected the compiled kernels") from error
    number, matrix = ctypes.c_int, ctypes.POINTER(Matrix)
    scratch = (Pointer, ctypes.c_size_t, number, number)  # .., path, threads
    lib.engine_has_path.argtypes = (number,)
    lib.engine_linear.argtypes = (
        *(*scratch, number, matrix, Pointer, Size),
        ctypes.POINTER(Pointer),
    )
    lib.engine_experts.argtypes = (
        *(*scratch, Pointer, Size, Pointer, number, number),
        *(matrix, matrix, matrix, Pointer),
    )
    lib.engine_attend.argtypes = (*scratch, ctypes.POINTER(Attention), Size, *(Pointer,) * 8)
    layers = (ctypes.POINTER(Layer), *(Size,) * 4)
    lib.engine_layers.argtypes = (*scratch, *layers, *(Pointer,) * 6)
    lib.engine_rows.argtypes = (number, matrix, ctypes.POINTER(Size), Size, Pointer)
    lib.engine_norm.argtypes = (
        *(number, number, Pointer, Pointer, Pointer, ctypes.c_float),
        *(Size, Size, Pointer, Pointer),
    )
    for function in (lib.engine_linear, lib.engine_experts, lib.engine_attend, lib.engine_layers):
        function.restype = ctypes.c_size_t
    lib.engine_norm.restype = lib.engine_rows.restype = None
    return lib


def paths() -> list[str]:
    """The instruction paths that this processor can run, the fastest last."""
    lib = library()
    return [name for number, name in enumerate(PATHS) if lib.engine_has_path(number)]


def encoded(weight: object) -> bool:
    """Whether the kernels multiply by this weight as it lies in the file."""
    return isinstance(weight, Blocks) and weight.type in TYPES and len(weight.parts) < 2


def matrix(weight: Blocks) -> Matrix:
    """The view of a weight [out, in], or of a stack of them [E, out, in], that C takes."""
    require_data(weight)
    rows, columns = weight.shape[-2:]
    size = row_bytes(weight.type, columns, weight.name) * rows
    size *= weight.shape[0] if len(weight.shape) == 3 else 1
    (part,) = weight.parts
    if part.nbytes != size or not part.flags.c_contiguous:
        raise TensorError(f"{weight.name}: found {part.nbytes} bytes, expected {size} in a row")
    return Matrix(part.ctypes.data, TYPES.index(weight.type), rows, columns)


def floats(weight: Weight) -> Tensor | None:
    """A float32 weight as it lies in the file, not copied; None where it does not lie so."""
    if not isinstance(weight, Blocks) or weight.type != "F32" or len(weight.parts) != 1:
        return None
    (part,) = weight.parts
    place = part.ctypes.data
    if place % 4 or part.nbytes != 4 * prod(weight.shape) or not part.flags.c_contiguous:
        return None
    mapped = (ctypes.c_float * prod(weight.shape)).from_address(place)
    x = torch.frombuffer(mapped, dtype=torch.float32).reshape(weight.shape)
    require_finite(weight, x)
    return x


class Kernels:
    """The kernels of one instruction path, with their scratch memory; one call at a time.

    Tensors are float32 and in the CPU's memory.
    """

    def __init__(self, path: str) -> None:
        if path not in PATHS:
            raise EngineError(f"kernels: found {path!r}, expected one of {', '.join(PATHS)}")
        if path not in paths():
            raise EngineError(
                f"kernels: found {path}, expected what this processor has: {', '.join(paths())}"
            )
        self.path = path
        self._number = PATHS.index(path)
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._lock = Lock()

    def linear(self, x: Tensor, matrices: Sequence[Matrix]) -> list[Tensor]:
        """x [T, in] times each matrix [out, in] transposed: [T, out] each."""
        x = _checked(x, (None, matrices[0].columns))
        if any((m.columns, m.block) != (x.shape[1], matrices[0].block) for m in matrices):
            raise TensorError("kernels: found matrices of other columns or blocks than the first")
        made = [torch.empty(len(x), m.rows) for m in matrices]
        to = (Pointer * len(made))(*(y.data_ptr() for y in made))
        self._call("linear", len(made), (Matrix * len(made))(*matrices), _at(x), len(x), to)
        return made

    def experts(
        self, x: Tensor, router: Tensor | None, used: int, gate: Matrix, up: Matrix, down: Matrix
    ) -> Tensor:
        """x [T, H] through `used` SwiGLU experts for each token, by the router [E, H]: [T, H].

        The matrices are stacks of E; without a router each holds the only expert.
        """
        hidden, width = gate.columns, gate.rows
        x = _checked(x, (None, hidden))
        count = 1 if router is None else len(router)
        sizes = (up.columns, up.rows, down.columns, down.rows)
        if sizes != (hidden, width, width, hidden) or up.block != gate.block:
            raise TensorError(
                f"kernels: found experts up [{up.rows}, {up.columns}] in blocks of {up.block}, "
                f"down [{down.rows}, {down.columns}] for gate [{width}, {hidden}] of {gate.block}"
            )
        if router is not None:
            router = _checked(router, (None, hidden))
        if not 1 <= used <= count:
            raise TensorError(f"router: found k = {used}, expected 1 to {count} experts")
        made = torch.empty_like(x)
        tokens = (_at(x), len(x), _at(router), count, used)
        self._call("experts", *tokens, gate, up, down, _at(made))
        return made

    def attend(
        self,
        layout: Attention,
        projected: Sequence[Tensor],
        angles: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """Norm and turn queries and keys in place, and put keys and values [kv heads, S, D] into
        the cache; a single query is attended.

        `projected` are [T, heads * D], contiguous, and `angles` [T, D/2]. Returns the queries, or
        for a single one what it sees: [T, heads * D].
        """
        q, k, v = projected
        wide, narrow = layout.heads * layout.size, layout.kv_heads * layout.size
        count = len(q)
        for x, columns in (
            (q, wide),
            (k, narrow),
            (v, narrow),
            *((a, layout.size // 2) for a in angles),
        ):
            if _checked(x, (count, columns)) is not x:
                raise TensorError("kernels: found a view, expected a tensor that can be changed")
        made = torch.empty_like(q) if count == 1 else q
        places = (_at(q), _at(k), _at(v), *map(_at, angles), _at(keys), _at(values), _at(made))
        self._call("attend", layout, count, *places)
        return made

    def norm(
        self, x: Tensor, delta: Tensor | None, gain: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        """x + delta, [T, n], and its RMSNorm by `gain` [n]."""
        x = _checked(x, (None, len(gain)))
        if delta is not None:
            delta = _checked(delta, x.shape)
        total, normed = torch.empty_like(x), torch.empty_like(x)
        library().engine_norm(
            *(self._number, torch.get_num_threads(), _at(x), _at(delta), _at(gain), epsilon),
            *(*x.shape, _at(total), _at(normed)),
        )
        return total, normed

    def layers(
        self,
        layers: "ctypes.Array[Layer]",
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
        length: int,
    ) -> tuple[Tensor, Tensor]:
        """One token x [1, H] through all layers, after `length` positions of the cache's keys and
        values [layers, kv heads, S, D]: the residual stream, and what is yet to be added to it.
        """
        x = _checked(x, (1, layers[0].output.rows)).clone()
        made = torch.zeros_like(x)
        strides = (keys.stride(1), keys.stride(0))
        places = (x, made, *angles, keys, values)
        self._call("layers", layers, len(layers), length, *strides, *map(_at, places))
        return x, made

    def rows(self, matrix: Matrix, ids: Sequence[int]) -> Tensor:
        """The rows `ids` of a matrix [n, H]: [len(ids), H]."""
        if not all(0 <= each < matrix.rows for each in ids):
            raise TensorError(f"kernels: found a row outside 0 to {matrix.rows - 1}")
        made = torch.empty(len(ids), matrix.columns)
        library().engine_rows(self._number, matrix, (Size * len(ids))(*ids), len(ids), _at(made))
        return made

    def _call(self, name: str, *arguments: object) -> None:
        """Call a function that needs scratch memory, which grows as it must."""
        function = getattr(library(), f"engine_{name}")
        with self._lock:
            scratch = self._scratch
            while True:
                room = scratch.numel()
                fixed = (_at(scratch), room, self._number, torch.get_num_threads())
                needed = function(*fixed, *arguments)
                if needed <= room:
                    return
                scratch = torch.empty(needed, dtype=torch.uint8)
                if needed <= KEPT:
                    self._scratch = scratch


def _checked(x: Tensor, shape: Sequence[int | None]) -> Tensor:
    """x in one piece of memory; `TensorError` where it is not what the kernels take."""
    fits = x.dtype == torch.float32 and x.device.type == "cpu" and len(x.shape) == len(shape)
    if not fits or any(n not in (None, found) for n, found in zip(shape, x.shape, strict=True)):
        raise TensorError(
            f"kernels: found {x.dtype} {list(x.shape)} on {x.device}, "
            f"expected torch.float32 {['any' if n is None else n for n in shape]} on cpu"
        )
    return x.contiguous()


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
