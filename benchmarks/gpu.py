"""How quick the route of a GPU is: decode and prefill of a model, beside the device's bandwidth.

    python benchmarks/gpu.py MODEL.gguf [--synthesise] [--json FILE.json] [--profile]

With --synthesise a file of Qwen3-30B-A3B's 48 layers with random weights (18.6 GB) is written to
MODEL.gguf, if nothing is there. Exit code 2 where there is no CUDA device. Every figure is the
median of the runs, which the JSON holds one by one.
"""

import argparse
import json
import statistics
import sys
import time
from math import prod
from pathlib import Path

import torch

import engine
from engine.errors import EngineError
from engine.fixture import SHAPES
from engine.gpu import size_of
from engine.routes import choose

CONTEXT = 128  # tokens before those that are decoded
BARS = {"decode": 400, "prefill 512": 8000}  # tokens per second, of 48 layers on an H200


def main() -> int:
    options = arguments()
    if not torch.cuda.is_available():
        print("gpu: found no CUDA device, expected one to measure", file=sys.stderr)
        return 2
    try:
        return measure(options)
    except EngineError as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--synthesise", action="store_true", help="write the file if it is absent")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="decoded in a run")
    parser.add_argument("--prefill", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true", help="time by kernel, after the runs")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> int:
    if options.synthesise and not options.model.exists():
        said = time.perf_counter()
        engine.write_fixture(options.model, shape=SHAPES["qwen3-30b-a3b"])
        print(f"written in {time.perf_counter() - said:.0f} s: {options.model}", file=sys.stderr)
    choice = choose("auto", options.device)
    print(f"route: {choice.reason}", file=sys.stderr)
    began = time.perf_counter()
    model = engine.load(options.model, options.device, choice.route)
    torch.cuda.synchronize()
    loaded = time.perf_counter() - began
    rates: dict[str, list[float]] = {f"prefill {size}": [] for size in options.prefill}
    rates["decode"] = []
    for size in options.prefill:  # compiles, and captures
        prefill(model, size)
    decode(model, 4)
    for _ in range(options.runs):
        for size in options.prefill:
            rates[f"prefill {size}"].append(size / prefill(model, size))
        rates["decode"].append(options.tokens / decode(model, options.tokens))
    report(options, model, rates, loaded)
    if options.profile:
        profile(model, max(options.prefill))
    return 0


def prompt(model: engine.Model, size: int) -> list[int]:
    generator = torch.Generator().manual_seed(size)
    ids: list[int] = torch.randint(
        model.config.vocabulary_size, (size,), generator=generator
    ).tolist()
    return ids


def next_token(model: engine.Model, ids: list[int], cache: engine.KVCache) -> int:
    """Greedy; to read the token is to wait for the device."""
    return int(model.forward(ids, cache, last_only=True)[-1].argmax())


def prefill(model: engine.Model, size: int) -> float:
    """Seconds to the first token after `size` ids."""
    ids, cache = prompt(model, size), model.new_cache(size)
    torch.cuda.synchronize()
    began = time.perf_counter()
    next_token(model, ids, cache)
    return time.perf_counter() - began


def decode(model: engine.Model, tokens: int) -> float:
    """Seconds for `tokens` after a prompt and one token more, which captures the pass."""
    cache = model.new_cache(CONTEXT + tokens + 1)
    token = next_token(model, prompt(model, CONTEXT), cache)
    token = next_token(model, [token], cache)
    began = time.perf_counter()
    for _ in range(tokens):
        token = next_token(model, [token], cache)
    return time.perf_counter() - began


def bytes_per_token(model: engine.Model, tokens: int) -> int:
    """What one token reads at least: matrices, the experts that it chose, the cache half way."""
    c, found = model.config, 0
    tied = "output.weight" not in model.weights
    for name, weight in model.weights.items():
        size = held(weight)
        if "_exps" in name:
            size = size * c.expert_used_count // c.expert_count
        if name == "token_embd.weight" and not tied:
            size //= weight.shape[0]
        found += size
    positions = CONTEXT + tokens // 2
    return found + 8 * c.block_count * c.head_count_kv * c.key_length * positions


def held(weight) -> int:
    """Bytes of a placed weight."""
    if hasattr(weight, "pointers"):
        parts = {part.data_ptr(): part for part in weight.pointers}
        return sum(part.numel() * part.element_size() for part in parts.values())
    return size_of(weight)


def bandwidth(runs: int) -> float:
    """Bytes read in a second, by the sum of 4 GB of float32."""
    numbers = torch.ones(10**9, device="cuda")
    seconds = []
    for _ in range(runs + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        numbers.sum()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 4e9 / statistics.median(seconds[1:])


def report(options, model, rates: dict[str, list[float]], loaded: float) -> None:
    """The table on stdout, and the JSON where it is asked for."""
    device = torch.device(options.device)
    peak = torch.cuda.max_memory_allocated(device)
    read = bytes_per_token(model, options.tokens)
    limit = bandwidth(options.runs)
    speed = statistics.median(rates["decode"])
    found = {
        "schema": "benchmarks/gpu/v1",
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "model": str(options.model.name),
        "layers": model.config.block_count,
        "weights_bytes": sum(held(weight) for weight in model.weights.values()),
        "numbers": sum(prod(weight.shape) for weight in model.weights.values()),
        "load_seconds": loaded,
        "tokens_per_second": rates,
        "bars": {
            name: {"least": least, "met": statistics.median(rates[name]) >= least}
            for name, least in BARS.items()
            if name in rates
        },
        "context": CONTEXT,
        "decoded": options.tokens,
        "bytes_per_token": read,
        "bandwidth_bytes_per_second": limit,
        "share_of_bandwidth": speed * read / limit,
        "peak_bytes": peak,
        "share_of_memory": peak / torch.cuda.get_device_properties(device).total_memory,
    }
    print(
        f"{found['device']}, torch {torch.__version__}, {options.model.name}, "
        f"{model.config.block_count} layers, loaded in {loaded:.1f} s"
    )
    print(f"{'':12} {'median':>10} {'minimum':>10} {'maximum':>10}  tok/s")
    for name, each in rates.items():
        bar = found["bars"].get(name)
        told = f"  {'met' if bar['met'] else 'MISSED'}: at least {bar['least']}" if bar else ""
        middle = statistics.median(each)
        print(f"{name:12} {middle:10.1f} {min(each):10.1f} {max(each):10.1f}{told}")
    print(
        f"decode reads {read / 1e9:.2f} GB a token: {speed * read / 1e9:.0f} GB/s, "
        f"{speed * read / limit:.0%} of the {limit / 1e9:.0f} GB/s of a plain sum"
    )
    print(f"memory at most {peak / 1e9:.1f} GB, {found['share_of_memory']:.0%} of the device's")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def profile(model: engine.Model, size: int) -> None:
    """Time by kernel: of a captured token, and of a prompt."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    cache = model.new_cache(CONTEXT + 12)
    token = next_token(model, prompt(model, CONTEXT), cache)
    token = next_token(model, [token], cache)
    with profiled(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        for _ in range(8):
            token = next_token(model, [token], cache)
    print("\n8 tokens, by kernel")
    print(seen.key_averages().table(sort_by="self_device_time_total", row_limit=20))
    with profiled(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        prefill(model, size)
    print(f"a prompt of {size}, by kernel")
    print(seen.key_averages().table(sort_by="self_device_time_total", row_limit=25))


if __name__ == "__main__":
    sys.exit(main())
