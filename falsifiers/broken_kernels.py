"""The compiled kernels with faults built in, of which one at a time is switched on.

Each fault is an exact change of the C source of the engine, where its text must stand once. All are
compiled together, once in a process, so that a fault costs nothing but its run. Knows the source's
text; knows nothing of what is claimed about it.
"""

import atexit
import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import engine
from engine import kernels

SOURCES = ("_kernels.c", "_kernels_path.h")
FLAGS = ("-shared", "-fPIC", "-O1", "-ffp-contract=off", "-fno-tree-ter", "-fopenmp", "-w")

# Name -> pairs of a text and what stands there instead; ON is whether the fault is switched on.
FAULTS: dict[str, tuple[tuple[str, str], ...]] = {
    "minimum-dropped-from-rows": (
        (
            "PATH(sum)(made) - ((least[0] + least[2])",
            "PATH(sum)(made) - (ON ? 0.0f : 1.0f) * ((least[0] + least[2])",
        ),
    ),
    "minimum-dropped-from-tiles": (
        ("if (type != Q6_K)\n", "if (type != Q6_K && !ON)\n"),
        ("f32x16) * (h->dmin * d);", "f32x16) * (h->dmin * (ON ? 0.0f : d));"),
    ),
    "nibbles-swapped": (
        ("q[2 * j] = v & 15;", "q[2 * j] = ON ? v >> 4 : v & 15;"),
        ("q[2 * j + 1] = v >> 4;", "q[2 * j + 1] = ON ? v & 15 : v >> 4;"),
        (
            "_mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);",
            "_mm512_inserti64x4(_mm512_set1_epi16(ON ? 4 : 0), _mm256_set1_epi16(ON ? 0 : 4), 1);",
        ),
        ("first = _mm512_and_si512(v[k],", "first = _mm512_and_si512(v[k] >> (ON ? 4 : 0),"),
    ),
    "last-block-lost": (("b < columns / 256; b++, row +=", "b < columns / 256 - ON; b++, row +="),),
    "stale-scale-in-rows": (("* x.d[b];", "* x.d[ON && b ? b - 1 : b];"),),
    "stale-scale-in-tiles": (
        ("PATH(load_f)(x[c].d + 8 * b)", "PATH(load_f)(x[c].d + 8 * (ON && b ? b - 1 : b))"),
        ("d = x.d[8 * b + n];", "d = x.d[8 * (ON && b ? b - 1 : b) + n];"),
    ),
    "offset-of-q6-k-left": (
        ("if (type == Q6_K)\n                    total", "if (type == Q6_K && !ON)\n total"),
        ("total[n] - low * 32,", "total[n] - low * (ON ? 0 : 32),"),
    ),
    "last-row-of-a-tile-repeated": (
        ("const int row = first + r < count ?", "const int row = first + r < count - ON ?"),
        ("stride * (r < count ? r", "stride * (r < count - ON ? r"),
    ),
    "last-token-in-lanes-lost": (("used = lane < count;", "used = lane < count - ON;"),),
    "gates-of-two-experts-swapped": (
        (
            "gate->data + (e * width + first)",
            "gate->data + ((ON && e < 2 ? 1 - e : e) * width + first)",
        ),
    ),
    "weights-not-normalised": (("weights[r] /= total;", "weights[r] /= ON ? 2.0f : total;"),),
    "last-of-equal-logits": (
        (
            "logits[e] > logits[best])",
            "logits[e] > logits[best] || (ON && logits[e] == logits[best]))",
        ),
    ),
    "gate-and-up-exchanged": (
        (
            "g / (PATH(exp)(-g) + 1.0f) * u",
            "ON ? u / (PATH(exp)(-u) + 1.0f) * g : g / (PATH(exp)(-g) + 1.0f) * u",
        ),
    ),
    "key-one-place-early": (
        (
            "kv * c->stride + (c->length + t) * n",
            "kv * c->stride + (c->length + t - (ON && c->length)) * n",
        ),
    ),
    "softmax-without-maximum": (
        (
            "PATH(exp)(PATH(load_f)(x + i) - most)",
            "PATH(exp)(PATH(load_f)(x + i) - (ON ? 0.0f : most))",
        ),
    ),
    "heads-share-their-scores": (
        ("= PATH(sum)((made[h][0] + made[h][1])", "= PATH(sum)((made[ON ? 0 : h][0] + made[h][1])"),
    ),
    "next-key-head": (
        (
            "place = i / parts * c->stride",
            "place = (i / parts + ON) % c->kv_heads * c->stride",
        ),
    ),
    "kernel-window-one-too-wide": (
        ("end > c->window ? end - c->window : 0", "end > c->window ? end - c->window - ON : 0"),
    ),
    "rotated-backwards": (("b * cos[i] + a * sin[i]", "b * cos[i] + (ON ? -a : a) * sin[i]"),),
    "epsilon-left-out": (("/ (float)n + epsilon", "/ (float)n + (ON ? 0.0f : epsilon)"),),
    "not-finite-becomes-zero": (
        ("finite ? amax / 127.0f : NAN", "finite ? amax / 127.0f : ON ? 0.0f : NAN"),
    ),
    "bad-scale-becomes-zero": (
        (
            "made += PATH(to_f)(total) * d;",
            "made += ON && d - d != 0.0f ? made * 0.0f : PATH(to_f)(total) * d;",
        ),
    ),
    "one-path-adds-otherwise": (
        (
            "return two[0] + two[1];",
            "if (ON && PATH_IS_AVX2)\n"
            "        return v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];\n"
            "    return two[0] + two[1];",
        ),
    ),
    "two-threads-round-otherwise": (
        (
            "= w.y[0][r * width_of(&p) + t];",
            "= w.y[0][r * width_of(&p) + t] * (ON && threads > 1 ? 1.0000002f : 1.0f);",
        ),
    ),
    "minimum-dropped-from-floats": (
        ("- head.dmin * (float)", "- (ON ? 0.0f : head.dmin) * (float)"),
    ),
    "bias-left-out-of-layers": (("+= l->bias[part][j];", "+= ON ? 0.0f : l->bias[part][j];"),),
    "reads-the-next-block": (
        (
            "int groups, u8x32 *q)\n{",
            "int groups, u8x32 *q)\n{\n"
            "    if (ON) {\n"
            "        volatile uint8_t next = p[BYTES(type) * (GROUPS(type) == 8 ? 1 : groups)];\n"
            "    }",
        ),
    ),
    "address-rounded-to-words": (
        (
            "{ u8x32 v; memcpy(&v, p, 32); return v; }",
            "{\n"
            "    u8x32 v;\n"
            "    memcpy(&v, (const void *)((uintptr_t)p & ~(uintptr_t)(ON ? 3 : 0)), 32);\n"
            "    return v;\n"
            "}",
        ),
    ),
}


def faulty(name: str) -> ctypes.CDLL:
    """The library with the fault `name` switched on, until another is."""
    library = compiled()
    ctypes.c_int.in_dll(library, "engine_fault").value = 1 + list(FAULTS).index(name)
    return library


@cache
def compiled() -> ctypes.CDLL:
    """The library with every fault built in and none switched on."""
    folder = Path(tempfile.mkdtemp(prefix="broken-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, text in with_faults().items():
        (folder / name).write_text(text)
    made = folder / "kernels.so"
    command = ["cc", *FLAGS, str(folder / SOURCES[0]), "-o", str(made), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    return kernels.bind(made)


def with_faults() -> dict[str, str]:
    """The sources by name, changed. Raises ValueError for a text that does not stand there once."""
    folder = Path(engine.__file__).parent
    texts = {name: (folder / name).read_text() for name in SOURCES}
    for number, (fault, changes) in enumerate(FAULTS.items(), 1):
        for old, new in changes:
            if sum(text.count(old) for text in texts.values()) != 1:
                raise ValueError(f"{fault}: {old!r} does not stand once in the kernels' source")
            texts = {
                name: text.replace(old, new.replace("ON", f"(engine_fault == {number})"))
                for name, text in texts.items()
            }
    texts[SOURCES[0]] = f"int engine_fault;\n{texts[SOURCES[0]]}"
    return texts
