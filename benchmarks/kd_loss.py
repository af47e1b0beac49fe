"""The loss of distillation with its gradients, from hidden states: memory and time of five ways.

    python benchmarks/kd_loss.py --json kd-my-machine.json
    python benchmarks/kd_loss.py --device cuda --dtype bfloat16 --json kd-my-gpu.json

plain         torch's modules on all logits, with autograd: KLDivLoss and cross_entropy
ModelOpt      its LogitsDistillationLoss in KLDivLoss's place, where nvidia-modelopt is installed
kd_loss       the engine's loss on all logits
Liger-Kernel  its chunked distillation loss, forward KL (beta 0), where liger-kernel is installed;
              on a GPU compiled, as is its default, elsewhere with --compile
chunked       the engine's loss in chunks, from hidden states

Each way runs once in a round, after one that does not count. Memory is the most that was held over
inputs and gradients: on a GPU what torch allocated, else the process's resident memory, from /proc
(Linux only). Every round is written to the JSON when it ends; with a file that is there, rounds go
on from it. All logits of one side take tokens × vocabulary numbers: give --ways where they are too
many.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.bench import host
from engine.distill import kd_loss, linear_kd_loss

TEMPERATURE, ALPHA = 2.0, 0.5
MEMORY, TIME = 0.15, 1.0  # the bars: of the plain way's
PEERS = {"ModelOpt": "nvidia-modelopt", "Liger-Kernel": "liger-kernel"}
Way = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def plain(x: Tensor, w: Tensor, z: Tensor, v: Tensor, y: Tensor) -> Tensor:
    s, t = F.linear(x, w), teacher(z, v)
    q, p = ((each.float() / TEMPERATURE).log_softmax(-1) for each in (s, t))
    far = F.kl_div(q, p, log_target=True, reduction="batchmean")
    return ALPHA * F.cross_entropy(s.float(), y) + (1 - ALPHA) * TEMPERATURE**2 * far


def modelopt(x: Tensor, w: Tensor, z: Tensor, v: Tensor, y: Tensor) -> Tensor:
    from modelopt.torch.distill.losses import LogitsDistillationLoss

    s, t = F.linear(x, w), teacher(z, v)
    far = LogitsDistillationLoss(TEMPERATURE, "batchmean")(s.float(), t.float())
    return ALPHA * F.cross_entropy(s.float(), y) + (1 - ALPHA) * far


def on_logits(x: Tensor, w: Tensor, z: Tensor, v: Tensor, y: Tensor) -> Tensor:
    return kd_loss(F.linear(x, w), teacher(z, v), y, temperature=TEMPERATURE, alpha=ALPHA)


def liger(compiled: bool) -> Way:
    def way(x: Tensor, w: Tensor, z: Tensor, v: Tensor, y: Tensor) -> Tensor:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        soft = (1 - ALPHA) * TEMPERATURE**2
        loss = LigerFusedLinearJSDLoss(
            weight_hard_loss=ALPHA,
            weight_soft_loss=soft,
            temperature=TEMPERATURE,
            compiled=compiled,
            beta=0.0,
        )
        return loss(x, w, z, v, y)

    return way


def chunked(
    x: Tensor, w: Tensor, z: Tensor, v: Tensor, y: Tensor, chunk: int | None = None
) -> Tensor:
    return linear_kd_loss(x, w, z, v, y, temperature=TEMPERATURE, alpha=ALPHA, chunk=chunk)


def teacher(z: Tensor, v: Tensor) -> Tensor:
    with torch.no_grad():
        return F.linear(z, v)


def ways(options: argparse.Namespace) -> dict[str, Way]:
    known: dict[str, Way] = {
        "plain": plain,
        "ModelOpt": modelopt,
        "kd_loss": on_logits,
        "Liger-Kernel": liger(options.compile or options.device != "cpu"),
        "chunked": partial(chunked, chunk=options.chunk),
    }
    asked = options.ways.split(",") if options.ways else list(known)
    return {name: known[name] for name in asked if installed(PEERS.get(name, "torch"))}


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        print(f"{package} is not installed: left out", file=sys.stderr)
        return None


def inputs(options: argparse.Namespace) -> list[Tensor]:
    """Hidden states and weights of both sides, and labels; logits have a deviation of about 2."""
    make = torch.Generator().manual_seed(0)
    tokens, hidden, width = options.tokens, options.hidden, options.vocabulary
    scale = 2 / hidden**0.5
    made = []
    for _ in ("student", "teacher"):
        made.append(torch.randn(tokens, hidden, generator=make))
        made.append(torch.randn(width, hidden, generator=make).mul_(scale))
    dtype = getattr(torch, options.dtype)
    tensors = [x.to(options.device, dtype) for x in made]
    for x in tensors[:2]:
        x.requires_grad_()
    return [*tensors, torch.randint(width, (tokens,), generator=make).to(options.device)]


class Memory:
    """The most that is held from `reset` on, over what was held then; in bytes."""

    def __init__(self, device: str) -> None:
        self.gpu = device != "cpu"

    def reset(self) -> None:
        gc.collect()
        if self.gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
            self.before = self._resident("VmRSS")

    def peak(self) -> int:
        if self.gpu:
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - self.before
        return self._resident("VmHWM") - self.before

    def _resident(self, field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def run(way: Way, given: list[Tensor], memory: Memory) -> dict[str, float]:
    """One forward and backward pass: seconds, and bytes over inputs and gradients."""
    memory.reset()
    began = time.perf_counter()
    loss = way(*given)
    loss.backward()
    peak = memory.peak()  # waits for a GPU
    seconds = time.perf_counter() - began
    grads = [x.grad for x in given[:2] if x.grad is not None]
    return {
        "seconds": seconds,
        "bytes": peak - sum(x.numel() * x.element_size() for x in grads),
        "loss": loss.item(),
        "gradient_norms": [x.norm(dtype=torch.float64).item() for x in grads],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What `--json` held, and as many rounds more as it lacks."""
    asked, memory, given = ways(options), Memory(options.device), inputs(options)
    document = started(options, asked)
    if len(document["rounds"]) < options.runs:
        document["differences"] = differences(asked, given, options)
    while len(document["rounds"]) < options.runs:
        found = {}
        for name, way in asked.items():
            found[name] = run(way, given, memory)
            given[0].grad = given[1].grad = None
            at = len(document["rounds"]) + 1
            print(f"round {at}, {name}: {found[name]['seconds']:.3f} s", file=sys.stderr)
        document["rounds"].append(found)
        save(options.json, document)
    return document


def save(path: Path | None, document: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def started(options: argparse.Namespace, asked: dict[str, Way]) -> dict[str, Any]:
    """The file's document, or a new one; refuses to mix what was measured otherwise."""
    fields = "device dtype tokens vocabulary hidden chunk compile"
    document = {
        "schema": "benchmarks/kd_loss/v1",
        "host": {
            **host(),
            "gpu": torch.cuda.get_device_name() if options.device != "cpu" else None,
        },
        "options": {name: getattr(options, name) for name in fields.split()},
        "temperature": TEMPERATURE,
        "alpha": ALPHA,
        "ways": list(asked),
        "versions": {name: version(PEERS[name]) for name in asked if name in PEERS},
        "rounds": [],
    }
    if options.json is None or not options.json.exists():
        return document
    found: dict[str, Any] = json.loads(options.json.read_text())
    other = [key for key in ("host", "options", "ways", "versions") if found[key] != document[key]]
    if other:
        sys.exit(f"{options.json}: measured with another {' and '.join(other)}; give another file")
    return found


def differences(
    asked: dict[str, Way], given: list[Tensor], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Loss and gradient to the weight against the first way's, relative; and all have run once.

    On a processor with few tokens; where kernels are compiled, which is for a size, with all.
    """
    x, w, z, v, y = given
    tokens = len(y) if options.compile or options.device != "cpu" else 128
    found: dict[str, dict[str, float]] = {}
    first = None
    for name, way in asked.items():
        loss = way(x[:tokens], w, z[:tokens], v, y[:tokens])
        loss.backward()
        first = (loss.item(), w.grad) if first is None else first
        off = (w.grad - first[1]).abs().max() / first[1].abs().max()
        found[name] = {"loss": abs(loss.item() / first[0] - 1), "gradient": off.item()}
        x.grad = w.grad = None
    return found


def table(document: dict[str, Any]) -> str:
    """Medians in Markdown, and beside the first way's; then the machine, and the bars."""
    names, rounds = document["ways"], document["rounds"]
    seconds, held = (
        {name: median(each[name][key] for each in rounds) for name in names}
        for key in ("seconds", "bytes")
    )
    base = names[0]
    lines = [f"| way | memory, GB | of {base} | time, s | of {base} | gradient off |"]
    lines.append("|---|---|---|---|---|---|")
    for name in names:
        off = document["differences"][name]["gradient"]
        lines.append(
            f"| {name} {document['versions'].get(name, '')} | {held[name] / 1e9:.2f} "
            f"| {held[name] / held[base]:.3f} | {seconds[name]:.3f} "
            f"| {seconds[name] / seconds[base]:.3f} | {off:.0e} |"
        )
    o, h = document["options"], document["host"]
    lines += [
        "",
        f"{h['gpu'] or h['processor']}, {h['threads']} threads, torch {h['torch']}: "
        f"{o['tokens']} tokens, V = {o['vocabulary']}, H = {o['hidden']}, {o['dtype']}; "
        f"medians of {len(rounds)} rounds in turn",
    ]
    if "chunked" in names and base != "chunked":
        met = held["chunked"] <= MEMORY * held[base], seconds["chunked"] <= TIME * seconds[base]
        said = ["met" if each else "NOT met" for each in met]
        lines.append(f"bars of {base}: memory ≤ {MEMORY} {said[0]}, time ≤ {TIME} {said[1]}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--runs", type=int, default=5, help="rounds in all")
    parser.add_argument("--ways", help="with commas; the first is what others are compared with")
    parser.add_argument("--chunk", type=int, help="tokens in one of the engine's; else its own")
    parser.add_argument("--compile", action="store_true", help="Liger-Kernel's, on a processor too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print(f"kd_loss: found no {options.device}, expected a GPU to measure", file=sys.stderr)
        return 2
    document = measure(options)
    print(table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
