"""The engine on a processor against llama.cpp, and the bars that it must meet.

    python benchmarks/cpu.py                       # makes the 5 GB file on first use, ≈ 10 minutes
    python benchmarks/cpu.py --file slice.gguf --name my-machine
    python benchmarks/cpu.py --table benchmarks/cpu-my-machine.json

Runs `python -m engine bench --compare llama.cpp` for the fastest route and for torch's, one after
the other, on 12 layers of Qwen3-30B-A3B's shapes with random weights. Writes every run's figures
and the machine as JSON, and prints the bars as the Markdown table that the README has. Knows no
clock: what is measured, and how, is engine.bench's.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
SLICE = HERE.parent / "build" / "qwen3-30b-a3b-12-layers.gguf"
FLAGS = "avx2 f16c fma avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 amx_int8 amx_bf16".split()
PACKAGES = ("torch", "numpy", "llama-cpp-python")
FASTEST, TORCH = "fastest", "torch"
PROMPTS = {FASTEST: "128,512", TORCH: "128"}
ROUTES = {FASTEST: "auto", TORCH: "torch"}
SYSTEM_INFO = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: at least `least`, or at most `most`."""

    what: str
    unit: str
    found: float | None  # None where the report lacks it
    least: float | None = None
    most: float | None = None
    detail: str = ""

    @property
    def met(self) -> bool:
        return reached(self)


def reached(bar: Bar) -> bool:
    """Whether a bar is met; one whose figure is not known is not."""
    if bar.found is None:
        return False
    over = bar.least is None or bar.found >= bar.least
    return over and (bar.most is None or bar.found <= bar.most)


def bars(reports: Mapping[str, Any]) -> Iterator[Bar]:
    """Every bar with what was found, from the reports of `engine bench` by route."""
    if FASTEST in reports:
        yield from _of_the_fastest(reports[FASTEST])
    if TORCH in reports:
        yield from _speeds(reports[TORCH], "decode", 0.4)


def _of_the_fastest(report: Mapping[str, Any]) -> Iterator[Bar]:
    yield from _speeds(report, "decode", 1.05)
    read = report["bandwidth"]
    for taken in report["traffic"]:
        share = None if taken["share"] is None else 100 * taken["share"]
        detail = f"{taken['bytes_per_second'] / 1e9:.1f} of {read['median'] / 1e9:.1f} GB/s"
        what = f"decode after {taken['prompt_tokens']}, of the read bandwidth"
        yield Bar(what, " %", share, least=85, detail=detail)
    yield from _speeds(report, "prefill", 1.5)
    ours, theirs = (report["compared"][key] for key in ("first_token", "peer_first_token"))
    for ratio in _ratios(report, "first token"):
        detail = f"{ours['median']:.2f} s against {theirs['median']:.2f} s"
        yield Bar("start to first token, of llama.cpp's time", "×", ratio["ratio"], None, 1, detail)
    over, before = (report["memory"][key] for key in ("over_file", "before_model"))
    found = None if over is None else over / 1e6
    detail = "" if before is None else f"{before / 1e6:.0f} before the model is opened"
    yield Bar("memory over the mapped file, decoding", " MB", found, most=300, detail=detail)


def _speeds(report: Mapping[str, Any], stage: str, least: float) -> Iterator[Bar]:
    """The speed of a stage as a multiple of llama.cpp's, at each prompt length."""
    sides = [
        {each["prompt_tokens"]: each["median"] for each in rates if each["stage"] == stage}
        for rates in (report["rates"], report["compared"]["rates"])
    ]
    for ratio in _ratios(report, stage):
        size = ratio["prompt_tokens"]
        detail = f"{sides[0][size]:.1f} against {sides[1][size]:.1f} tok/s"
        place = f"after {size}" if stage == "decode" else f"of {size}"
        what = f"{stage} {place}, of llama.cpp's speed ({report['route'].partition(':')[0]})"
        yield Bar(what, "×", ratio["ratio"], least, detail=detail)


def _ratios(report: Mapping[str, Any], stage: str) -> list[Any]:
    return [each for each in report["compared"]["ratios"] if each["stage"] == stage]


def table(document: Mapping[str, Any]) -> Iterator[str]:
    """The bars as Markdown, and below them the machine."""
    yield "| measure | bar | found | met |"
    yield "|---|---|---|---|"
    for bar in bars(document["reports"]):
        limit = f"≥ {bar.least:g}" if bar.least is not None else f"≤ {bar.most:g}"
        found = "not known" if bar.found is None else f"{bar.found:.3g}{bar.unit}"
        detail = f" ({bar.detail})" if bar.detail else ""
        met = "yes" if bar.met else "**no**"
        yield f"| {bar.what} | {limit}{bar.unit} | {found}{detail} | {met} |"
    machine, runs = document["machine"], min(_runs(each) for each in document["reports"].values())
    yield ""
    yield (
        f"{machine['processor']}, {machine['cores']} cores ({' '.join(machine['flags'])}), "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items())
        + f"; {document['date'][:10]}, medians of {runs} runs in turn."
    )


def _runs(report: Mapping[str, Any]) -> int:
    return min((len(rate["seconds"]) for rate in report["rates"]), default=0)


def machine() -> dict[str, Any]:
    """What the figures hold for, from /proc where there is one."""
    cpu = _fields(Path("/proc/cpuinfo"))
    memory = _fields(Path("/proc/meminfo")).get("MemTotal", "0 kB")
    family = "/".join(cpu.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return {
        "processor": cpu.get("model name") or platform.processor(),
        "family_model_stepping": family,
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "memory_bytes": int(memory.split()[0]) * 1024,
        "system": platform.platform(),
    }


def _fields(path: Path) -> dict[str, str]:
    """`name: value` lines, of which the first with a name counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.partition(":")[::2] for line in lines]
    return {name.strip(): value.strip() for name, value in reversed(pairs)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is written as JSON."""
    file = _file(arguments.file)
    reports = {kind: _bench(file, kind, arguments) for kind in arguments.routes.split(",")}
    here = machine()
    return {
        "schema": "benchmarks/cpu/v1",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "-C", str(HERE), "rev-parse", "HEAD"),
        "dirty": bool(_said("git", "-C", str(HERE), "status", "--porcelain")),
        "machine": here,
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "llama_cpp_build": _said(sys.executable, "-c", SYSTEM_INFO),
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars(reports)],
        "reports": reports,
    }


def _file(given: Path | None) -> Path:
    """The file to measure on; the slice is made where it is not there yet."""
    if given is not None or SLICE.exists():
        return given or SLICE
    SLICE.parent.mkdir(exist_ok=True)
    _engine("fixture", str(SLICE), "--shape", "qwen3-30b-a3b", "--layers", "12")
    return SLICE


def _bench(file: Path, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    options = ["--route", ROUTES.get(kind, kind), "--compare", "llama.cpp"]
    options += ["--prompt-tokens", arguments.prompt_tokens or PROMPTS.get(kind, "128,512")]
    options += ["--tokens", str(arguments.tokens), "--runs", str(arguments.runs)]
    options += [] if kind == "plain" else ["--profile"]
    options += [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        _engine("bench", str(file), *options, "--json", str(report))
        found: dict[str, Any] = json.loads(report.read_text())
    return {**found, "file": file.name}  # where it lies is nobody's business


def _engine(*arguments: str) -> None:
    print("engine", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "engine", *arguments], check=True)


def _said(*command: str) -> str | None:
    """What a command prints; None where it fails or is not there."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The engine on a processor against llama.cpp.")
    parser.add_argument("--file", type=Path, help="a GGUF file; else the slice in build/")
    parser.add_argument("--name", help="of the machine, in the JSON's name; else its processor's")
    parser.add_argument("--routes", default=f"{FASTEST},{TORCH}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt-tokens", help="else 128,512; of torch's route 128")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="else benchmarks/cpu-NAME.json")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="print its table, no more")
    return parser.parse_args()


def main() -> None:
    arguments = _options()
    if arguments.table is not None:
        document = json.loads(arguments.table.read_text())
    else:
        document = measure(arguments)
        here = document["machine"]
        name = arguments.name or f"{here['processor']} {here['cores']} cores"
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        out = arguments.out or HERE / f"cpu-{slug}.json"
        out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        print(f"written: {out}", file=sys.stderr)
    print("\n".join(table(document)))


if __name__ == "__main__":
    main()
