"""The quantisers that publish uses against llama.cpp's, on one core: speed and what is lost.

    python -m benchmarks.quantise                     # about a minute
    python -m benchmarks.quantise --name my-machine
    python -m benchmarks.quantise --table benchmarks/quantise-my-machine.json

Run from the root of the project. Both quantise the same float32 rows in turn, in one thread;
llama.cpp by `ggml_quantize_chunk` without an importance matrix. Speed is in MB of float32 input;
the error is the root mean square of what the `gguf` package decodes it to be off, over llama.cpp's.
Writes every run's figures and the machine as JSON, and prints a Markdown table with the bars.
"""

import argparse
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.cpu import HERE, machine
from engine.quant import quantise
from engine.quant_search import SEARCHES, encode
from falsifiers.ggml_oracle import ggml_quantize
from falsifiers.publish_cases import rms, weights

PACKAGES = ("torch", "numpy", "llama-cpp-python")
ROWS, WIDTH = 1024, 2048  # 8 MiB
LEAST_SPEED, MOST_ERROR = 50.0, 1.05
MEGA = 1e6


def measure(runs: int) -> dict[str, Any]:
    """Everything that is written as JSON."""
    torch.set_num_threads(1)
    return {
        "schema": "benchmarks/quantise/v1",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "rows": [ROWS, WIDTH],
        "types": {
            kind: {"seconds": _turns(kind, runs), "errors": _errors(kind)} for kind in SEARCHES
        },
    }


def _turns(kind: str, runs: int) -> dict[str, list[float]]:
    """Seconds of each, in turn; the first turn of all is not counted."""
    rows = weights((ROWS, WIDTH))["normal"]
    x = torch.from_numpy(rows)
    ways: dict[str, Callable[[], object]] = {
        "search": lambda: encode(x, kind),
        "llama.cpp": lambda: ggml_quantize(rows, kind),
        "plain rounding": lambda: quantise(x, kind),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                found[name].append(time.perf_counter() - began)
    return found


def _errors(kind: str) -> dict[str, dict[str, float]]:
    """Of each kind of rows: llama.cpp's root mean square error, and ours over it."""
    found = {}
    for name, rows in weights((256, WIDTH)).items():
        x = torch.from_numpy(rows)
        theirs = rms(ggml_quantize(rows, kind), kind, rows)
        found[name] = {
            "llama.cpp": theirs,
            "search": rms(encode(x, kind).numpy(), kind, rows) / theirs,
            "plain rounding": rms(quantise(x, kind).numpy(), kind, rows) / theirs,
        }
    return found


def table(document: Mapping[str, Any]) -> Iterator[str]:
    """A row for each type, and below them the machine."""
    size = document["rows"][0] * document["rows"][1] * 4 / MEGA
    yield "| type | MB/s (bar ≥ 50) | llama.cpp | error over llama.cpp's (bar ≤ 1.05) | met |"
    yield "|---|---|---|---|---|"
    for kind, found in document["types"].items():
        speed = {name: size / median(each) for name, each in found["seconds"].items()}
        errors = sorted(each["search"] for each in found["errors"].values())
        met = speed["search"] >= LEAST_SPEED and errors[-1] <= MOST_ERROR
        yield (
            f"| {kind} | {speed['search']:.0f} | {speed['llama.cpp']:.0f} | "
            f"{median(errors):.3f} in the median, {errors[-1]:.3f} at most | "
            f"{'yes' if met else '**no**'} |"
        )
    here, runs = document["machine"], _runs(document)
    yield ""
    yield (
        f"One core of {here['processor']} ({' '.join(here['flags'])}); "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items())
        + f"; {document['date'][:10]}, medians of {runs} runs in turn."
    )


def _runs(document: Mapping[str, Any]) -> int:
    return min(len(each) for t in document["types"].values() for each in t["seconds"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description="The quantisers against llama.cpp's.")
    parser.add_argument("--name", help="of the machine, in the JSON's name; else its processor's")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, help="else benchmarks/quantise-NAME.json")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="print its table, no more")
    arguments = parser.parse_args()
    if arguments.table is not None:
        document = json.loads(arguments.table.read_text())
    else:
        document = measure(arguments.runs)
        name = arguments.name or document["machine"]["processor"]
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        out = arguments.out or HERE / f"quantise-{slug}.json"
        out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        print(f"written: {out}", file=sys.stderr)
    print("\n".join(table(document)))


if __name__ == "__main__":
    main()
