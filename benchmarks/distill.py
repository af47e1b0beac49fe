"""Training a student against TRL's GKD trainer, off-policy, on a processor; the bar is 1.3×.

    python benchmarks/distill.py --peer-python venv-with-trl/bin/python
    python benchmarks/distill.py --table benchmarks/distill-my-machine.json

The same pair of Qwen3 models from a seed, the same batches in the same order, AdamW at the same
rate, the same objective (KL from the teacher, temperature 1), float32, the same threads: the two
sides take turns, each in a process of its own. Losses of the first steps are compared, so that
nobody wins by doing something else. Writes every step's seconds as JSON and prints a table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from engine.distill.data import Synthetic
from engine.distill.hf_folder import write_folder
from engine.distill.loop import Training
from engine.distill.objective import Targets
from engine.distill.recipe import Recipe
from engine.distill.student import fresh, open_student
from engine.distill.teachers import open_teacher

HERE = Path(__file__).parent
BAR = 1.3
SKIPPED = 2  # steps that warm up
MODEL = {
    "model_type": "qwen3",
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}
STUDENT = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 768}
TEACHER = {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1536}
RECIPE = Recipe(
    warmup=0, least=1.0, temperature=1.0, alpha=0.0, heldout_windows=1, heldout_every=10**6
)


def engine_side(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """This engine's run: the seconds between the ends of its steps."""
    torch.set_num_threads(arguments.threads)
    student = open_student(folder / "student")
    data = source(arguments)
    teacher = open_teacher(folder / "teacher", route="plain", data=data)
    targets = Targets(teacher, arguments.vocabulary, torch.device("cpu"))
    recipe = recipe_of(arguments)
    ends: list[float] = []
    losses: list[float] = []

    def see(row: dict[str, Any]) -> None:
        if "loss" in row:
            ends.append(time.perf_counter())
            losses.append(row["loss"])

    with TemporaryDirectory() as run:
        Training(student, targets, data, data, recipe, Path(run)).train(see)
    seconds = [b - a for a, b in zip(ends, ends[1:], strict=False)]
    return {"seconds": [None, *seconds], "losses": losses}  # the first step's start is not seen


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    sizes = {"steps": arguments.steps, "batch": arguments.batch, "seq_len": arguments.seq_len}
    return replace(RECIPE, **sizes, learning_rate=arguments.rate, save_every=10**6)


def source(arguments: argparse.Namespace) -> Synthetic:
    windows = arguments.steps * arguments.batch
    return Synthetic(arguments.seq_len, vocabulary_size=arguments.vocabulary, windows=windows)


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """Both models and all batches, for both sides."""
    for name, sizes, seed in (("teacher", TEACHER, 1), ("student", STUDENT, 0)):
        made = fresh({**MODEL, **sizes, "vocab_size": arguments.vocabulary}, name, seed)
        tensors = {key: each.detach() for key, each in made.named_parameters()}
        if name == "teacher":  # a fresh one would say nothing but "all alike"
            tensors["token_embd.weight"] = tensors["token_embd.weight"] * 5
        write_folder(folder / name, tensors, made.hf, None)
    data = source(arguments)
    batches = [data.batch(step, arguments.batch) for step in range(arguments.steps)]
    ids = [torch.cat([each.inputs, each.labels[:, -1:]], dim=1).numpy() for each in batches]
    np.save(folder / "batches.npy", np.stack(ids))


def in_turn(folder: Path, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Each side's runs, one after the other."""
    own = [sys.executable, __file__, "--side", str(folder), *forwarded(arguments)]
    files = [str(folder / name) for name in ("teacher", "student", "batches.npy")]
    peer = [arguments.peer_python, str(HERE / "distill_trl.py"), *files]
    peer += [str(arguments.rate), str(arguments.threads)]
    found: dict[str, list[dict[str, Any]]] = {"engine": [], "trl": []}
    for turn in range(arguments.runs):
        for name, command in (("engine", own), ("trl", peer)):
            ran = subprocess.run(command, capture_output=True, text=True, env=environment(name))
            if ran.returncode:
                sys.exit(f"{name} failed:\n{ran.stderr[-3000:]}")
            found[name].append(json.loads(ran.stdout.splitlines()[-1]))
            print(f"run {turn + 1}, {name}: {speed(found[name][-1], arguments):,.0f} tokens/s")
    return found


def environment(name: str) -> dict[str, str]:
    """Of a side's process: the engine's own source, and nothing of it for the peer."""
    found = {**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"}
    if name == "engine":
        found["PYTHONPATH"] = str(HERE.parent)
    return found


def forwarded(arguments: argparse.Namespace) -> list[str]:
    names = ("steps", "batch", "seq_len", "vocabulary", "threads", "rate")
    pairs = [(f"--{n.replace('_', '-')}", str(getattr(arguments, n))) for n in names]
    return [each for pair in pairs for each in pair]


def speed(run: dict[str, Any], arguments: argparse.Namespace) -> float:
    """Tokens a second, by the median of the steps that are counted."""
    return arguments.batch * arguments.seq_len / median(run["seconds"][SKIPPED:])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with TemporaryDirectory() as place:
        prepare(Path(place), arguments)
        runs = in_turn(Path(place), arguments)
    ratios = [
        speed(ours, arguments) / speed(theirs, arguments)
        for ours, theirs in zip(runs["engine"], runs["trl"], strict=True)
    ]
    pairs = zip(runs["engine"][0]["losses"], runs["trl"][0]["losses"], strict=True)
    versions = {"Python": platform.python_version(), "torch": version("torch")}
    return {
        "schema": "benchmarks/distill/v1",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "versions": versions | runs["trl"][0]["versions"],
        "setting": {name: getattr(arguments, name) for name in ("batch", "seq_len", "vocabulary")}
        | {"threads": arguments.threads, "student": STUDENT, "teacher": TEACHER, "model": MODEL},
        "losses_apart": max(abs(a - b) / abs(b) for a, b in pairs),
        "tokens_per_second": {
            name: [speed(run, arguments) for run in each] for name, each in runs.items()
        },
        "ratios": ratios,
        "ratio": median(ratios),
        "bar": BAR,
        "met": median(ratios) >= BAR,
        "runs": runs,
    }


def processor() -> str:
    """From /proc where there is one."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(document: dict[str, Any]) -> Iterator[str]:
    """Markdown, and below it the setting."""
    ours, theirs = (median(document["tokens_per_second"][side]) for side in ("engine", "trl"))
    speeds = f"{ours:,.0f} against {theirs:,.0f} tok/s"
    ratios, met = document["ratios"], "yes" if document["met"] else "**no**"
    yield "| measure | bar | found | met |"
    yield "|---|---|---|---|"
    yield (
        f"| distillation, of TRL GKD's speed | ≥ {document['bar']}× | {document['ratio']:.2f}× "
        f"({speeds}; {min(ratios):.2f} to {max(ratios):.2f}) | {met} |"
    )
    setting, machine = document["setting"], document["machine"]
    yield ""
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {setting['threads']} threads; "
        f"batches of {setting['batch']} × {setting['seq_len']} tokens, "
        f"vocabulary {setting['vocabulary']:,}; "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items())
        + f"; {document['date'][:10]}, {len(ratios)} runs in turn; losses within "
        f"{document['losses_apart']:.0e} of each other."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Distillation against TRL's GKD trainer.")
    parser.add_argument("--peer-python", default=sys.executable, help="one that has trl")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--name", default=platform.node() or "here", help="of the machine")
    parser.add_argument("--out", type=Path, help="else benchmarks/distill-NAME.json")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="print its table, no more")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = _options()
    if arguments.side is not None:
        print(json.dumps(engine_side(arguments.side, arguments)))
        return
    if arguments.table is not None:
        document = json.loads(arguments.table.read_text())
    else:
        document = measure(arguments)
        out = arguments.out or HERE / f"distill-{arguments.name}.json"
        out.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        print(f"written: {out}", file=sys.stderr)
    print("\n".join(table(document)))


if __name__ == "__main__":
    main()
