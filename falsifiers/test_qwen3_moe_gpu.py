"""The forward pass of qwen3moe on a GPU, against the same pass on the CPU.

Every claim also says that the GPU did the work: a path that quietly ran on the CPU would agree with
it in everything. On a file of the true shapes where one is given, else on the embedded default.
"""

import gc
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engine
from engine import rope
from engine.model import Pass, run_layer
from engine.routes import choose
from engine.weights import linear
from falsifiers.forward_cases import prompts

DEVICE = "cuda"
TIED = 2e-3  # of the router logits' deviation: a smaller gap decides nothing between two experts


@pytest.fixture
def path(shape_gguf: Path | None, tiny: Path) -> Path:
    return shape_gguf or tiny


@pytest.fixture
def held() -> int:
    """Bytes of the GPU that are taken before the model is there: by a test that failed, say."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


@pytest.fixture
def gpu(path: Path, held: int) -> engine.Model:
    """The model on the GPU, whose memory is counted from here."""
    return engine.load(path, DEVICE, choose("auto", DEVICE).route)


def ids_for(model: engine.Model) -> list[int]:
    return prompts(model.config.vocabulary_size)[2]


def observe_work(observe, held: int) -> None:
    """Observe what the GPU took at most; nothing, if it did nothing."""
    observe("peak_bytes", torch.cuda.max_memory_allocated() - held)


@torch.no_grad()
def through_layer(model: engine.Model, layer: int, x: Tensor) -> dict[str, Tensor]:
    """What `layer` makes of x [T, H], by stage, on the CPU."""
    made = {}

    def probe(layer: int | None, stage: str, tensor: Tensor) -> None:
        made[stage] = tensor.cpu()

    cache = model.new_cache(len(x)) if model.route else None
    angles = rope.tables(model.config, torch.arange(len(x), device=model.device))
    run_layer(model, layer, x.to(model.device), None, Pass(*angles, cache, probe, model.route))
    return made


def clear_choices(model: engine.Model, layer: int, x: Tensor) -> Tensor:
    """bool [T]: where the router of `layer`, given x [T, H], is clear about its last expert."""
    logits = linear(x, model.weight(f"blk.{layer}.ffn_gate_inp"))
    best = logits.sort(dim=-1, descending=True).values
    used = model.config.expert_used_count
    return best[:, used - 1] - best[:, used] > TIED * logits.std(dim=-1)


def cosines(found: Tensor, expected: Tensor) -> Tensor:
    return torch.cosine_similarity(found.cpu().double(), expected.double(), dim=-1)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-GPU-PARITY-001")
def test_every_layer_makes_on_the_gpu_what_it_makes_on_the_cpu(observe, path, gpu, held):
    cpu = engine.load(path)
    x = cpu.weight("token_embd").rows(ids_for(cpu), cpu.device)
    attention, experts, clear = [], [], []
    for layer in range(cpu.config.block_count):
        found, expected = (through_layer(each, layer, x) for each in (gpu, cpu))
        attention.append(cosines(found["attn_out"], expected["attn_out"]))
        experts.append(cosines(found["ffn_out"], expected["ffn_out"]))
        clear.append(clear_choices(cpu, layer, expected["ffn_norm"]))
        x = x + expected["attn_out"] + expected["ffn_out"]
    sure = torch.stack(clear)
    observe("attention_cosine", torch.stack(attention).min())
    observe("experts_cosine", torch.stack(experts)[sure].min())
    observe("clear", sure.double().mean())
    observe_work(observe, held)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-GPU-PARITY-002")
def test_logits_on_the_gpu_are_those_on_the_cpu(observe, path, gpu, held):
    ids = ids_for(gpu)
    cache = gpu.new_cache(len(ids))
    parts = [ids[:-4], *([token] for token in ids[-4:])]  # the last four by the captured pass
    found = torch.cat([gpu.forward(part, cache).cpu() for part in parts])
    observe("cosine", cosines(found, engine.load(path).logits(ids)).min())
    observe("positions", len(found))
    observe_work(observe, held)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-GPU-DETERMINISM-001")
def test_the_same_prompt_gives_the_same_tokens_twice(observe, gpu, held):
    once, twice = (list(engine.generate(gpu, ids_for(gpu), max_tokens=32)) for _ in range(2))
    observe("differing_tokens", sum(a != b for a, b in zip(once, twice, strict=True)))
    observe("tokens", len(once))
    observe_work(observe, held)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-GPU-MEMORY-001")
def test_generation_leaves_memory_free(observe, gpu, held):
    list(engine.generate(gpu, ids_for(gpu), max_tokens=8))
    total = torch.cuda.get_device_properties(gpu.device).total_memory
    observe("share_of_memory", torch.cuda.max_memory_allocated() / total)
    observe_work(observe, held)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-GPU-THROUGHPUT-001")
def test_decoding_is_quick_on_the_gpu(observe, gpu, held):
    made = engine.generate(gpu, ids_for(gpu), max_tokens=129)
    next(made)  # the prompt's pass
    started = time.perf_counter()
    tokens = sum(1 for _ in made)  # each token is fetched, so the GPU is waited for
    observe("tokens_per_second", tokens / (time.perf_counter() - started))
    observe("tokens", tokens)
    observe_work(observe, held)
