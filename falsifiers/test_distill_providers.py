"""Where a student's lessons come from: windows of tokens, and a teacher's logits for them.

Oracles: lists of tokens written with `struct`, float64 softmax, prefixes through a standalone
forward.
"""

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engine
from engine.distill.data import Batch, Shards, Synthetic
from engine.distill.hf_folder import write_folder
from engine.distill.objective import Dense, Objective
from engine.distill.precompute import precompute
from engine.distill.student import Student
from engine.distill.teachers import check_tokens, open_teacher
from engine.distill.vocabulary import align, align_kept, check_vocabularies
from falsifiers import distill_cases
from falsifiers import provider_cases as cases
from falsifiers.differences import differing
from falsifiers.provider_cases import Scripted, V, largest, pairs, random_shards, refusal
from falsifiers.small_vocabulary import small_vocabulary
from falsifiers.threads import one_thread  # noqa: F401 (a fixture)

T, B = 12, 3


# Teachers


def standalone(path: Path, route: str, window: list[int]) -> Tensor:
    """Logits [T, V] by a model of its own: on the plain route, each from its own prefix."""
    model = engine.load(path, route=route)
    if route != "plain":
        return model.forward(window)
    ends = range(1, len(window) + 1)
    return torch.cat([model.forward(window[:end], last_only=True) for end in ends])


@pytest.mark.falsifies("F-DISTILL-TEACHER-001")
@pytest.mark.parametrize("route", ["plain", "auto", "torch"])
def test_a_teachers_logits_are_those_of_a_standalone_forward(observe, tiny, route):
    source = Synthetic(T, vocabulary_size=512, windows=20)
    batch = source.batch(2, B)
    teacher = open_teacher(tiny, route=route, data=source)
    found = teacher.logits(batch)
    expected = torch.stack([standalone(tiny, route, ids) for ids in batch.inputs.tolist()])
    observe("error", largest(found, expected))
    observe("positions", found.shape[0] * found.shape[1])
    through_hidden = teacher.hidden(batch) @ teacher.output_weight().T
    observe("cosine_through_hidden", torch.cosine_similarity(through_hidden, found, dim=-1).min())
    observe("gradients", int(found.requires_grad or through_hidden.requires_grad))


@pytest.mark.falsifies("F-DISTILL-TEACHER-002")
@pytest.mark.parametrize("route", ["plain", "auto"])
def test_a_teacher_on_a_gpu_is_a_standalone_forward_there(observe, tiny, route):
    source = Synthetic(T, vocabulary_size=512, windows=20)
    batch = source.batch(0, B)
    teacher = open_teacher(tiny, device="cuda", route=route, data=source)
    found = teacher.logits(batch)
    model = engine.load(tiny, "cuda", route)
    one_by_one = (model.forward(ids) for ids in batch.inputs.tolist())
    # 1e-6 leaves no room for sums in another order, as a batch of other sizes would have.
    expected = model.logits(batch.inputs) if route == "plain" else torch.stack(list(one_by_one))
    observe("relative_error", largest(found, expected) / float(expected.abs().max()))
    observe("positions", found.shape[0] * found.shape[1])
    observe("device", found.device.type)


# Vocabularies


@pytest.mark.falsifies("F-VOCAB-ALIGN-001")
def test_the_surplus_is_cut_before_softmax(observe):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 152_064, generator=generator) * 4
    logits[1:, 151_936:] += 16  # most of the probability lies in what is cut
    cut = align(logits, 151_936)
    exact = logits[:, :151_936].double().softmax(dim=-1)
    found = cut.double().softmax(dim=-1)
    observe("probability_error", largest(found, exact))
    observe("changed_logits", int((cut != logits[:, :151_936]).sum()))
    lost = logits.softmax(dim=-1)[1:, 151_936:].sum(dim=-1)
    observe("least_mass_cut", lost.min())
    observe("off_one", float((found.sum(dim=-1) - 1).abs().max()))


@pytest.mark.falsifies("F-VOCAB-ALIGN-002")
def test_a_student_larger_than_its_teacher_is_refused(observe, tmp_path):
    small, large = cases.tokenizer(), cases.tokenizer(500)
    source = Synthetic(4, vocabulary_size=300, windows=4)
    precompute(Scripted(), source, tmp_path / "cache", k=8)
    larger = Synthetic(4, vocabulary_size=301, windows=4)
    sizes = (str(small.vocab_size), "500")
    tries = [
        (("4", "5"), lambda: align(torch.zeros(2, 4), 5)),
        (sizes, lambda: check_vocabularies(small, large)),
        (("151936", "152064"), lambda: align(torch.zeros(1, 151_936), 152_064)),
        (("cache",), lambda: open_teacher(tmp_path / "cache", data=larger)),
    ]
    said = [refusal(call) for _, call in tries]
    observe("accepted", said.count(""))
    unclear = [
        text for (words, _), text in zip(tries, said, strict=True) for w in words if w not in text
    ]
    observe("unclear_refusals", len(unclear))


@pytest.mark.falsifies("F-VOCAB-ALIGN-003")
def test_equal_vocabularies_are_left_as_they_are(observe):
    logits = torch.randn(2, 3, 50)
    observe("changed", int((align(logits, 50) != logits).sum()))
    observe("copies", int(align(logits, 40).data_ptr() != logits.data_ptr()))
    observe("shape_off", differing(align(logits, 40).shape, (2, 3, 40)))


TOKENS = small_vocabulary()["tokenizer.ggml.tokens"]
LAST = TOKENS.index("</think>")  # that is text


@pytest.mark.falsifies("F-VOCAB-ALIGN-004")
def test_equal_tokens_at_equal_ids_are_checked(observe):
    small = cases.tokenizer()
    types = list(small_vocabulary()["tokenizer.ggml.token_type"])
    types[TOKENS.index("<|im_end|>")] = 4  # user-defined, which is text
    different = {
        260: cases.tokenizer(tokens=cases.swapped(TOKENS, 260, 300)),
        LAST: cases.tokenizer(tokens=[*TOKENS[:LAST], "<other>", *TOKENS[LAST + 1 :]]),
        TOKENS.index("<|im_end|>"): cases.tokenizer(token_type=types),
    }
    said = {
        index: refusal(lambda t=t: check_vocabularies(t, small)) for index, t in different.items()
    }
    observe("accepted", sum(not text for text in said.values()))
    observe("unnamed_ids", sum(f"id {index}:" not in text for index, text in said.items()))
    padded = [cases.tokenizer(), cases.tokenizer(400), cases.tokenizer(1000)]
    observe(
        "good_refused", sum(bool(refusal(lambda t=t: check_vocabularies(t, small))) for t in padded)
    )


@pytest.mark.falsifies("F-VOCAB-ALIGN-005")
def test_kept_logits_beyond_the_student_are_cut_too(observe):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(50, 40, generator=generator) * 3
    best = logits.topk(40, dim=-1)  # all are kept: the cut must be the dense one's
    kept, ids = align_kept(best.values, best.indices, 30)
    found = torch.zeros(50, 40).scatter_add_(-1, ids, kept.softmax(dim=-1))
    exact = align(logits, 30).softmax(dim=-1)
    observe("probability_error", largest(found[:, :30], exact))
    observe("mass_beyond", float(found[:, 30:].sum()))
    observe("ids_beyond", int((ids >= 30).sum()))
    nothing = refusal(lambda: align_kept(torch.zeros(1, 2), torch.tensor([[30, 31]]), 30))
    observe("emptied_positions_accepted", int("30" not in nothing))


@pytest.mark.falsifies("F-VOCAB-ALIGN-006")
def test_a_caches_tokens_are_known_by_their_digest(observe, tiny, tmp_path):
    source = Synthetic(4, vocabulary_size=512, windows=2)
    teacher = open_teacher(tiny)
    precompute(teacher, source, tmp_path, k=4)
    cached = open_teacher(tmp_path, data=source)
    same, other = engine.load_tokenizer(tiny), cases.tokenizer(400)
    both = (teacher, cached)
    observe("accepted", sum(not refusal(lambda t=t: check_tokens(t, other)) for t in both))
    observe("good_refused", sum(bool(refusal(lambda t=t: check_tokens(t, same))) for t in both))


# The cache


@pytest.mark.falsifies("F-DISTILL-PREP-001")
def test_a_cached_teacher_is_the_one_that_it_was_made_of(observe, tiny, tmp_path):
    source = Synthetic(8, vocabulary_size=512, windows=200)
    teacher = open_teacher(tiny, data=source)
    precompute(teacher, source, tmp_path / "cache")
    cached = open_teacher(tmp_path / "cache", data=source)
    cosines, errors, off = [], [], []
    for step in range(100):
        batch = source.batch(step, 2)
        online, kept = teacher.logits(batch), cached.logits(batch)
        cosine = torch.cosine_similarity(online.softmax(dim=-1), kept.softmax(dim=-1), dim=-1)
        cosines.append(cosine.min())
        for temperature in (1.0, 2.0):
            found = (kept / temperature).double().softmax(dim=-1)
            errors.append(largest(found, renormalised(online, 64, temperature)))
            off.append(float((sparse(*cached.kept(batch), temperature) - found).abs().max()))
    observe("cosine", torch.stack(cosines).min())
    observe("batches", len(cosines))
    observe("probability_error", max(errors))
    observe("error_of_kept", max(off))


def renormalised(logits: Tensor, k: int, temperature: float) -> Tensor:
    """The K most probable tokens in float64, and nothing for the others."""
    exact = (logits.double() / temperature).softmax(dim=-1)
    least = logits.sort(dim=-1, descending=True).values[..., k - 1 : k]
    exact = exact * (logits >= least)
    return exact / exact.sum(dim=-1, keepdim=True)


def sparse(kept: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """What is kept as probabilities over 512 tokens."""
    shares = (kept.double() / temperature).softmax(dim=-1)
    return torch.zeros(*ids.shape[:-1], 512, dtype=torch.float64).scatter_(-1, ids, shares)


# Windows


STREAMS = [
    ((40,), 4),
    ((41,), 4),
    ((3, 0, 1, 30), 5),
    ((6, 6), 11),
    ((17, 2, 90, 1), 16),
    ((9,), 1),
]


@pytest.mark.falsifies("F-DISTILL-SHARD-BATCH-001")
@pytest.mark.parametrize(("sizes", "seq_len"), STREAMS)
def test_labels_are_the_genuine_next_tokens(observe, tmp_path, sizes, seq_len):
    folder, tokens = random_shards(tmp_path, *sizes)
    source = Shards(folder, seq_len, vocabulary_size=V, seed=None)
    batch = source.batch(0, len(source))
    genuine, found = set(pairwise(tokens)), pairs(batch)
    observe("wrong_labels", sum(pair not in genuine for pair in found))
    observe("tokens_never_a_label", len(genuine - set(found)))
    observe("windows_off", abs(len(source) - math.ceil((len(tokens) - 1) / seq_len)))
    observe("out_of_order", differing(found[:seq_len], list(pairwise(tokens))[:seq_len]))
    observe("wrong_shapes", int(batch.inputs.shape != (len(source), seq_len)))
    observe("wrong_types", sum(each.dtype != torch.int64 for each in (batch.inputs, batch.labels)))


@pytest.mark.falsifies("F-DISTILL-SHARD-BATCH-002")
@pytest.mark.parametrize("kind", ["shards", "synthetic"])
def test_after_the_last_window_it_goes_on_anew(observe, tmp_path, kind):
    folder, _ = random_shards(tmp_path, 60, 42)

    def opened(seed: int = 0) -> Shards | Synthetic:
        if kind == "shards":
            return Shards(folder, 5, vocabulary_size=V, seed=seed)
        return Synthetic(5, vocabulary_size=V, windows=21, seed=seed)

    source = opened()
    steps = range(3 * len(source))  # batches of 4 are four epochs of 21 windows, by the third
    in_order = cases.order(source, steps, 4)
    flat = [window for windows in in_order for window in windows]
    epochs = [flat[at : at + len(source)] for at in range(0, len(flat), len(source))]
    uneven = sum(set(Counter(epoch).values()) != {1} for epoch in epochs)
    observe("epochs_without_every_window_once", uneven)
    observe("repeated_orders", len(epochs) - len({tuple(epoch) for epoch in epochs}))
    observe(
        "steps_that_depend_on_others", differing(in_order, cases.order(opened(), steps[::-1], 4))
    )
    observe("seeds_of_one_order", int(cases.order(opened(1), steps, 4) == in_order))
    batches = [each.batch(50, 4) for each in (source, opened())]
    observe("differing_tokens", int((batches[0].inputs != batches[1].inputs).sum()))


# Students


def one_update(model: Student, batch: Batch, wanted: Tensor, rate: float = 0.05) -> None:
    """A step of plain descent by the loss of distillation, all of it the teacher's."""
    gradients_of(model, batch, wanted)
    with torch.no_grad():
        for each in model.parameters():
            each -= rate * each.grad


def gradients_of(model: Student, batch: Batch, wanted: Tensor) -> None:
    target = Dense(wanted)
    then = partial(target.loss, labels=batch.labels, goal=Objective(1.0, 0.0))
    model.zero_grad()
    model(batch.inputs, then).backward()


@pytest.mark.falsifies("F-DISTILL-STUDENT-001")
@pytest.mark.parametrize("kind", distill_cases.KINDS)
def test_a_step_raises_the_token_that_the_teacher_prefers(observe, kind):
    model, batch = distill_cases.student(kind), distill_cases.text().batch(0, B)
    preferred = torch.randint(distill_cases.V, batch.labels.shape, generator=seeded(1))
    wanted = torch.zeros(*preferred.shape, distill_cases.V).scatter_(-1, preferred[..., None], 9.0)
    before = model.logits(batch.inputs).detach().log_softmax(-1).gather(-1, preferred[..., None])
    one_update(model, batch, wanted)
    after = model.logits(batch.inputs).detach().log_softmax(-1).gather(-1, preferred[..., None])
    observe("least_rise", (after - before).mean(dim=1).min())
    observe("mean_rise", (after - before).mean())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.falsifies("F-DISTILL-STUDENT-002")
@pytest.mark.parametrize("kind", distill_cases.KINDS)
def test_ten_steps_lower_the_loss_each_time(observe, kind, tmp_path):
    model, source = distill_cases.student(kind), Repeated()
    recipe = replace(distill_cases.RECIPE, steps=11, warmup=0, learning_rate=4e-3)
    run = distill_cases.trained(
        tmp_path, distill_cases.teacher(), recipe, model=model, source=source
    )
    observe("rises", sum(after >= before for before, after in pairwise(run.losses)))
    observe("last_over_first", run.losses[10] / run.losses[0])


class Repeated:
    """The same windows at each step."""

    def batch(self, step: int, size: int) -> Batch:
        return distill_cases.text().batch(0, size)


@pytest.mark.falsifies("F-DISTILL-STUDENT-003")
@pytest.mark.parametrize("kind", distill_cases.KINDS)
def test_every_window_and_every_position_changes_the_gradient(observe, kind):
    model, batch = distill_cases.student(kind), distill_cases.text().batch(0, B)
    wanted = torch.randn(*batch.labels.shape, distill_cases.V, generator=seeded(2))

    def gradient(changed: Tensor) -> Tensor:
        gradients_of(model, batch, changed)
        return torch.cat([each.grad.flatten() for each in model.parameters()])

    whole, moved = gradient(wanted), []
    for place in range(batch.labels.numel()):
        other = wanted.clone().flatten(0, 1)
        other[place] = other[place].flip(0)
        moved.append(float((gradient(other.view_as(wanted)) - whole).norm() / whole.norm()))
    observe("least_change", min(moved))
    observe("places", len(moved))


@pytest.mark.falsifies("F-DISTILL-CUDA-STUDENT-001")
@pytest.mark.parametrize("kind", distill_cases.KINDS)
def test_a_student_on_a_gpu_is_a_standalone_forward_there(observe, kind, tmp_path):
    model, batch = distill_cases.student(kind), distill_cases.text().batch(0, B)
    write_folder(tmp_path, distill_cases.weights(model), model.hf, None)
    found = model.cuda().logits(batch.inputs.cuda()).detach()
    expected = engine.load(tmp_path, "cuda").to_float().logits(batch.inputs)
    observe("relative_error", largest(found, expected) / float(expected.abs().max()))
    observe("device", found.device.type)
