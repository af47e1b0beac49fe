"""Tries to refute the step of distillation: its loss, its gradient, and both in chunks.

The oracle is torch's own `KLDivLoss` and `cross_entropy` in float64, row by row, without
the columns that are masked, and autograd through them; see `falsifiers.kd_oracle`.
"""

import math

import pytest
import torch

from engine.distill import linear_kd_loss
from engine.distill.losses import BLOCK, kd_logit_gradient, kd_loss, sparse_kd_loss
from falsifiers.kd_oracle import (
    KINDS,
    Widest,
    compared,
    hidden_case,
    logits_case,
    oracle,
    relative,
)
from falsifiers.kd_refusals import outcome_of, wrong_calls

TEMPERATURES = [1, 2, 4, 10]
ENDLESS = 10**6  # a temperature


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(random: torch.Generator, *shape: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=random)


def gradient(student, teacher, labels, **mix) -> torch.Tensor:
    """By autograd through `kd_loss`."""
    leaf = student.clone().requires_grad_()
    kd_loss(leaf, teacher, labels, **mix).backward()
    return leaf.grad


@pytest.mark.falsifies("F-DISTILL-KDSTEP-001")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_alpha_one_is_plain_cross_entropy(observe, random, temperature):
    s, t = normal(random, 2, 9, 500, scale=1), normal(random, 2, 9, 500)
    t[0, 3] = math.inf  # must not matter
    labels = torch.randint(500, (2, 9), generator=random)
    labels[1, :4] = -100
    leaf = s.double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(leaf.flatten(0, 1), labels.flatten())
    expected.backward()
    mix = {"temperature": temperature, "alpha": 1}
    found = [kd_logit_gradient(s, t, labels, **mix), gradient(s, t, labels, **mix)]
    observe("gradient_error", max((each - leaf.grad).abs().max() for each in found))
    observe("loss_error", (kd_loss(s, t, labels, **mix) - expected).abs())


@pytest.mark.falsifies("F-DISTILL-KDSTEP-002")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_student_that_is_the_teacher_has_nothing_to_learn(observe, random, temperature):
    logits, labels = normal(random, 16, 300), torch.randint(300, (16,), generator=random)
    mix = {"temperature": temperature, "alpha": 0}
    own, other = (
        len(labels) * gradient(logits, teacher, labels, **mix).abs().max()
        for teacher in (logits.clone(), normal(random, 16, 300))
    )
    observe("gradient", own)
    observe("loss", kd_loss(logits, logits.clone(), labels, **mix).abs())
    observe("gradient_beside_another_teacher", other)


@pytest.mark.falsifies("F-DISTILL-KDSTEP-003")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_loss_rises_with_divergence(observe, random, temperature):
    teacher, away = normal(random, 4, 200), normal(random, 4, 200, scale=1)
    labels = torch.zeros(4, dtype=torch.long)
    steps = torch.arange(25.0, requires_grad=True)
    losses = torch.stack(
        [
            kd_loss(teacher + step / 4 * away, teacher, labels, temperature=temperature, alpha=0)
            for step in steps
        ]
    )
    losses.sum().backward()
    observe("smallest_rise", losses.diff().min())
    observe("smallest_slope", steps.grad[1:].min())
    observe("steps", len(losses) - 1)


@pytest.mark.falsifies("F-DISTILL-KDSTEP-004")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("width", [5, 1000, 151_936])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_torch(observe, random, kind, width, temperature):
    case = logits_case(kind, width, random)
    mix = {"temperature": temperature, "alpha": 0.3}
    loss, expected = oracle(*case, **mix)
    single, double = (
        compared(kd_loss, case, mix, loss, expected, dtype)
        for dtype in (torch.float32, torch.float64)
    )
    closed = kd_logit_gradient(*case, **mix).double()
    observe("loss_error", max(single.absolute if loss < 1000 else 0, double.absolute))
    observe("relative_loss_error", max(single.relative, double.relative))
    errors = [single.gradient, double.gradient, (closed - expected).abs().max()]
    observe("gradient_error", max(map(float, errors)))
    observe("not_finite", single.not_finite + double.not_finite)


@pytest.mark.falsifies("F-DISTILL-KDSTEP-005")
@pytest.mark.parametrize("chunk", [1, 7, 16, 38, 100, None])
@pytest.mark.parametrize(("temperature", "alpha"), [(1, 0.3), (4, 0.3), (2, 0), (2, 1)])
def test_chunks_give_the_loss_and_gradients_of_the_whole(
    observe, random, monkeypatch, chunk, temperature, alpha
):
    monkeypatch.setitem(BLOCK, "cpu", 5 * 300)  # several blocks in a chunk
    case = hidden_case(random)
    mix = {"temperature": temperature, "alpha": alpha}
    hidden, weight = (x.double().requires_grad_() for x in case[:2])
    teacher = case[2].double() @ case[3][: len(weight)].double().T
    loss, push = oracle(hidden @ weight.T, teacher, case[4], **mix)
    (hidden @ weight.T).backward(3 * push)
    leaves = [x.clone().requires_grad_() for x in case[:2]]
    found = linear_kd_loss(*leaves, *case[2:], chunk=chunk, **mix)
    (3 * found).backward()
    observe("relative_loss_error", abs(found.item() - loss) / loss)
    observe("relative_gradient_error_hidden", relative(leaves[0].grad, hidden.grad))
    observe("relative_gradient_error_weight", relative(leaves[1].grad, weight.grad))


@pytest.mark.falsifies("F-DISTILL-KDSTEP-006")
@pytest.mark.parametrize("block", [50, 100, 2**21])
def test_what_does_not_count_is_as_if_it_were_not_there(observe, random, monkeypatch, block):
    s, t, labels = logits_case("ordinary", 50, random)
    mix = {"temperature": 2, "alpha": 0.5}
    there = labels >= 0
    alone = s[there], t[there], labels[there]
    poisoned = (
        s.masked_fill(~there[..., None], math.nan),
        t.masked_fill(~there[..., None], math.inf),
    )
    shapes = [(s, t, labels), (s[None], t[None], labels[None]), (*poisoned, labels)]
    loss, expected = oracle(*alone, **mix)
    monkeypatch.setitem(BLOCK, "cpu", block)  # 1 row of 50 at a time, or 2, or all
    losses = torch.stack([kd_loss(*each, **mix) for each in [*shapes, alone]])
    observe("loss_difference", (losses - loss).abs().max())
    found = [gradient(*poisoned, labels, **mix), gradient(*alone, **mix)]
    observe(
        "gradient_difference", max((x - expected).abs().max() for x in (found[0][there], found[1]))
    )
    observe("gradient_of_what_does_not_count", found[0][~there].abs().max())
    single = kd_loss(s[0, 0], t[0, 0], labels[0, 0], **mix)
    observe("loss_difference", (single - kd_loss(s[0, :1], t[0, :1], labels[0, :1], **mix)).abs())


@pytest.mark.falsifies("F-DISTILL-KDSTEP-007")
@pytest.mark.parametrize("count", [0, 4])
def test_where_no_token_counts_the_loss_is_zero(observe, random, count):
    labels, mix = torch.full((count,), -100), {"temperature": 2, "alpha": 0.5}
    s, t = (normal(random, count, 9).requires_grad_() for _ in range(2))
    weight, hidden = (normal(random, *size, 3).requires_grad_() for size in ((9,), (count,)))
    losses = [
        kd_loss(s, t, labels, **mix),
        sparse_kd_loss(s, t[:, :2], torch.zeros(count, 2).long(), labels, **mix),
        linear_kd_loss(hidden, weight, hidden, weight, labels, **mix),
    ]
    sum(losses).backward()
    observe("loss", max(abs(each.item()) for each in losses))
    observe("gradient", sum(x.grad.abs().sum() for x in (s, hidden, weight)))
    observe("teachers_with_a_gradient", int(t.grad is not None))


@pytest.mark.falsifies("F-DISTILL-KDSTEP-008")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_summed_in_float32(observe, random, dtype):
    case = [
        x.to(dtype) if x.is_floating_point() else x for x in logits_case("ordinary", 2000, random)
    ]
    mix = {"temperature": 4, "alpha": 0.3}
    loss, expected = oracle(*case, **mix)
    found = compared(kd_loss, case, mix, loss, expected, dtype)
    wide_teacher = kd_loss(case[0], case[1].double(), case[2], **mix)
    observe("loss_error", max(found.absolute, abs(wide_teacher.item() - loss)))
    observe("relative_gradient_error", found.gradient / expected.abs().max())
    leaf = case[0].clone().requires_grad_()
    (2.0**14 * kd_loss(leaf, *case[1:], **mix)).backward()  # as a scaler of losses would
    lost = (leaf.grad == 0) & (2**14 * expected.abs() > torch.finfo(dtype).smallest_normal)
    observe("entries_lost_to_underflow", lost.sum())
    observe("other_types", int(leaf.grad.dtype is not dtype))


@pytest.mark.falsifies("F-DISTILL-KDSTEP-009")
@pytest.mark.parametrize("kept", [1, 5, 64])
def test_a_teacher_of_k_logits_is_one_whose_others_are_masked(observe, random, kept):
    s, t, labels = logits_case("ordinary", 64, random)
    mix = {"temperature": 3, "alpha": 0.3}
    logits, ids = t.topk(kept)
    order = torch.randperm(kept, generator=random)
    logits, ids = logits[..., order], ids[..., order]
    dense = torch.full_like(t, -torch.inf).scatter(-1, ids, logits)
    loss, expected = oracle(s, dense, labels, **mix)
    found = compared(sparse_kd_loss, (s, logits, ids, labels), mix, loss, expected, torch.float32)
    observe("loss_error", found.absolute)
    observe("gradient_error", found.gradient)


@pytest.mark.falsifies("F-DISTILL-KDSTEP-010")
@pytest.mark.parametrize("chunk", [3, None])
def test_no_matrix_of_all_tokens_and_the_vocabulary_is_made(observe, random, monkeypatch, chunk):
    monkeypatch.setattr("engine.distill.linear_loss.LOGITS", 8 * 1000)
    tokens, hidden, width = 200, 4, 1000
    labels = torch.randint(width, (tokens,), generator=random)
    case = [normal(random, size, hidden).requires_grad_() for size in (tokens, width)] * 2
    with Widest() as widest:
        linear_kd_loss(*case, labels, temperature=2, alpha=0.5, chunk=chunk).backward()
    observe("largest_beside_all_logits", widest.numbers / (tokens * width))


@pytest.mark.falsifies("F-DISTILL-KDSTEP-011")
def test_wrong_inputs_are_one_clear_error(observe, random):
    outcomes = {name: outcome_of(call) for name, call in wrong_calls().items()}
    print(outcomes)
    observe("accepted", sum(each == "accepted" for each in outcomes.values()))
    observe("untyped_errors", sum(each != "EngineError" for each in outcomes.values()))
    observe("calls", len(outcomes))


@pytest.mark.falsifies("F-DISTILL-KDSTEP-012")
def test_gradients_are_made_where_asked_and_used_once(observe, random):
    case, mix = hidden_case(random), {"temperature": 2, "alpha": 0.5}

    def step(*trained: bool) -> list:
        leaves = [x.clone().requires_grad_(on) for x, on in zip(case, trained, strict=False)]
        loss = linear_kd_loss(*leaves, *case[2:], **mix)
        loss.backward(retain_graph=True)
        return [loss, *(x.grad for x in leaves)]

    loss, *both = step(True, True)
    hidden, weight = step(True, False), step(False, True)
    alone = [hidden[1], weight[2]]
    pairs = zip(alone, both, strict=True)
    observe("gradient_difference", max((a - b).abs().max() for a, b in pairs))
    with torch.no_grad():
        silent = linear_kd_loss(*(x.clone().requires_grad_() for x in case[:4]), case[4], **mix)
    observe("loss_difference", (silent - loss).abs())
    unasked = [hidden[2] is not None, weight[1] is not None, silent.requires_grad]
    observe("gradients_unasked_for", sum(unasked))
    leaf = case[0].clone().requires_grad_()
    logits = kd_loss(leaf, case[0], case[4].clamp(max=23), **mix)
    logits.backward(retain_graph=True)
    observe("second_passes", passes_again(loss) + passes_again(logits))


def passes_again(loss: torch.Tensor) -> int:
    try:
        loss.backward()
    except RuntimeError:
        return 0
    return 1


@pytest.mark.falsifies("F-DISTILL-KDSTEP-013")
def test_under_autocast_it_is_a_linear_layer_and_its_loss(observe, random):
    *sides, labels = hidden_case(random)
    sides[3] = sides[3][: len(sides[1])]
    mix, found = {"temperature": 2, "alpha": 0.5}, []

    def plain(x, w, z, v, labels, **mix):
        return kd_loss(x @ w.T, z @ v.T, labels, **mix)

    for loss_of in (linear_kd_loss, plain):
        leaves = [x.clone().requires_grad_() for x in sides]
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(*leaves, labels, **mix)
        loss.backward()
        found.append([loss.detach(), leaves[0].grad, leaves[1].grad])
    observe("relative_loss_difference", relative(found[0][0], found[1][0]))
    pairs = list(zip(*found, strict=True))[1:]
    observe("relative_gradient_difference", max(relative(a, b) for a, b in pairs))
    observe("narrow_gradients", sum(each.dtype is not torch.float32 for each, _ in pairs))


def soft_targets(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """The teacher's distribution, from the gradient of a student who knows nothing."""
    labels = torch.zeros(logits.shape[:-1]).long()
    mix = {"temperature": temperature, "alpha": 0}
    pull = kd_logit_gradient(torch.zeros_like(logits), logits, labels, **mix) * labels.numel()
    return 1 / logits.shape[-1] - pull / temperature


@pytest.mark.falsifies("FALSIFY-KD-001")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_divergence_is_never_below_zero(observe, random, temperature):
    def least(pairs):
        mix = {"temperature": temperature, "alpha": 0}
        found = [kd_loss(*each, torch.zeros(1).long(), **mix).item() for each in pairs]
        return min(found) / temperature**2

    far = [(normal(random, 1, 40), normal(random, 1, 40)) for _ in range(100)]
    near = [(s, s + normal(random, 1, 40, scale=1e-4)) for s, _ in far]
    observe("least_of_near_pairs", least(near))
    observe("least_of_near_pairs_in_float64", least((s.double(), t.double()) for s, t in near))
    observe("least_of_far_pairs", least(far))
    observe("largest_of_equals", max(abs(least([(s, s)])) for s, _ in far))


@pytest.mark.falsifies("FALSIFY-KD-002")
def test_an_endless_temperature_gives_uniform_targets(observe, random):
    logits = normal(random, 64, 100).double()
    steps = [1, 10, 100, 10**4, ENDLESS]
    far = [(soft_targets(logits, step) - 0.01).abs().max().item() for step in steps]
    observe("farthest_from_uniform", far[-1])
    observe("farthest_at_temperature_one", far[0])
    observe("rises", sum(b >= a for a, b in zip(far, far[1:], strict=False)))


@pytest.mark.falsifies("FALSIFY-KD-003")
@pytest.mark.parametrize("temperature", [1, 4])
def test_at_its_ends_alpha_leaves_one_term(observe, random, temperature):
    s, t, labels = logits_case("ordinary", 60, random)
    others = t.flip(-1), torch.where(labels < 0, labels, (labels + 7) % 60)

    def both(teacher, ids, alpha):
        mix = {"temperature": temperature, "alpha": alpha}
        loss = kd_loss(s, teacher, ids, **mix)
        return torch.cat([loss.reshape(1), gradient(s, teacher, ids, **mix).flatten()])

    at_one, at_zero = both(t, labels, 1), both(t, labels, 0)
    observe("teacher_matters_at_one", (both(others[0], labels, 1) - at_one).abs().max())
    observe("labels_matter_at_zero", (both(t, others[1], 0) - at_zero).abs().max())
    between = 0.3 * at_one + 0.7 * at_zero
    observe("off_the_line_between", (both(t, labels, 0.3) - between).abs().max())
    impossible = s.clone()
    impossible[labels >= 0, labels[labels >= 0]] = -torch.inf  # the cross-entropy is infinite
    mix = {"temperature": temperature, "alpha": 0}
    masked = kd_loss(impossible, impossible, labels, **mix)
    observe("not_finite_without_weight", int(~torch.isfinite(masked)))


@pytest.mark.falsifies("FALSIFY-KD-004")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_finite_differences_agree_with_the_gradient(observe, random, temperature, alpha):
    s, t, labels = (x[:1] for x in logits_case("ordinary", 6, random))
    s, t, mix = s.double(), t.double(), {"temperature": temperature, "alpha": alpha}
    steps = 1e-5 * torch.eye(s.numel(), dtype=torch.float64).view(-1, *s.shape)
    rises = [
        kd_loss(s + step, t, labels, **mix) - kd_loss(s - step, t, labels, **mix) for step in steps
    ]
    slopes = torch.stack(rises).view_as(s) / 2e-5
    observe("max_abs_error", (slopes - kd_logit_gradient(s, t, labels, **mix)).abs().max())


@pytest.mark.falsifies("FALSIFY-APR-DISTILL-TRAIN-003")
@pytest.mark.parametrize("temperature", [1, 2, 3, 5, 10])
def test_temperature_keeps_the_most_likely_token(observe, random, temperature):
    logits = normal(random, 1200, 50)
    targets = soft_targets(logits.double(), temperature)
    observe("moved", (targets.argmax(-1) != logits.argmax(-1)).sum())
    observe("vectors", len(logits))
