"""Faults in the step of distillation: the two terms, their mixture, what counts, and the chunks."""

from dataclasses import replace

import torch

LOSSES = "engine.distill.losses"
LINEAR = "engine.distill.linear_loss"


def kd_alpha_swapped(plant):
    """Alpha weights the divergence, as it does in the other convention."""

    def fault(token_losses):
        def faulty(s, t, ids, labels, mix):
            return token_losses(s, t, ids, labels, replace(mix, alpha=1 - mix.alpha))

        return faulty

    plant(f"{LOSSES}.token_losses", fault)


def kd_cross_entropy_in_full(plant):
    """Alpha is the weight of the divergence alone; the cross-entropy has all of its own."""

    def fault(token_losses):
        def faulty(s, t, ids, labels, mix):
            loss, push = token_losses(s, t, ids, labels, mix)
            more, other = token_losses(s, t, ids, labels, replace(mix, alpha=1))
            rest = 1 - mix.alpha
            return loss + rest * more, push + rest * other

        return faulty

    plant(f"{LOSSES}.token_losses", fault)


def kd_cross_entropy_softened(plant):
    """The cross-entropy, too, is taken of logits divided by the temperature."""

    def fault(token_losses):
        def faulty(s, t, ids, labels, mix):
            soft = token_losses(s / mix.temperature, t, ids, labels, replace(mix, alpha=1))
            far, pull = token_losses(s, t, ids, labels, replace(mix, alpha=0))
            a, b = mix.alpha, 1 - mix.alpha
            return a * soft[0] + b * far, a * soft[1] / mix.temperature + b * pull

        return faulty

    plant(f"{LOSSES}.token_losses", fault)


def kd_teacher_shifted_by_one(plant):
    """Each position learns from the teacher's word on the position before."""

    def fault(token_losses):
        return lambda s, t, ids, labels, mix: token_losses(s, t.roll(1, 0), ids, labels, mix)

    plant(f"{LOSSES}.token_losses", fault)


def kd_teacher_not_softened(plant):
    """The temperature divides the student's logits alone."""

    def fault(divergence):
        return lambda s, t, ids, temperature, weight: divergence(
            s, t * temperature, ids, temperature, weight
        )

    plant(f"{LOSSES}.divergence", fault)


def kd_one_entry_softened(plant):
    """The temperature divides the first of the teacher's logits alone."""

    def fault(divergence):
        def faulty(s, t, ids, temperature, weight):
            soft = t * temperature
            soft[:, 0] = t[:, 0]
            return divergence(s, soft, ids, temperature, weight)

        return faulty

    plant(f"{LOSSES}.divergence", fault)


def kd_temperature_capped(plant):
    """Above 10, the temperature is 10."""

    def fault(divergence):
        return lambda s, t, ids, temperature, weight: divergence(
            s, t * max(1, temperature / 10), ids, temperature, weight
        )

    plant(f"{LOSSES}.divergence", fault)


def kd_temperature_squared_in_gradient(plant):
    """The gradient has the loss's factor T squared and not T."""
    _scaled(plant, lambda loss, pull, temperature: (loss, pull * temperature))


def kd_temperature_squared_missing(plant):
    """The loss has no factor T squared, and its gradient fits it."""
    _scaled(plant, lambda loss, pull, temperature: (loss / temperature**2, pull / temperature**2))


def kd_sign_flipped(plant):
    """The student is driven away from the teacher."""
    _scaled(plant, lambda loss, pull, temperature: (-loss, -pull))


def kd_gradient_sign_flipped(plant):
    """The loss is right, and its gradient leads uphill."""
    _scaled(plant, lambda loss, pull, temperature: (loss, -pull))


def kd_sign_flipped_in_cross_entropy(plant):
    """The gradient of the cross-entropy leads away from the label."""

    def fault(cross_entropy):
        def faulty(s, labels, weight):
            loss, push = cross_entropy(s, labels, weight)
            return loss, -push

        return faulty

    plant(f"{LOSSES}.cross_entropy", fault)


def kd_gradient_vanishes(plant):
    """The divergence is reported, and pulls at nothing."""
    _scaled(plant, lambda loss, pull, temperature: (loss, pull * 0))


def kd_loss_constant(plant):
    """What is reported does not depend on the student any more; the gradient does."""
    _scaled(plant, lambda loss, pull, temperature: (torch.ones_like(loss), pull))


def _scaled(plant, change):
    def fault(divergence):
        def faulty(s, t, ids, temperature, weight):
            return change(*divergence(s, t, ids, temperature, weight), temperature)

        return faulty

    plant(f"{LOSSES}.divergence", fault)


def kd_reversed(plant):
    """The divergence is of the teacher from the student: it seeks a mode, and covers none."""
    plant(f"{LOSSES}.divergence", lambda divergence: _reversed)


def kd_reversed_and_clamped(plant):
    """The divergence is of the teacher from the student, and never above 1."""

    def fault(divergence):
        def faulty(s, t, ids, temperature, weight):
            loss, pull = _reversed(s, t, ids, temperature, weight)
            return loss.clamp(max=1), pull * (loss <= 1)[:, None]

        return faulty

    plant(f"{LOSSES}.divergence", fault)


def _reversed(s, t, ids, temperature, weight):
    with torch.enable_grad():
        leaf = s.detach().requires_grad_()
        log_q, log_p = ((x / temperature).log_softmax(-1) for x in (leaf, t))
        loss = weight * temperature**2 * (log_q.exp() * (log_q - log_p)).sum(-1)
        (pull,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach().double(), pull


def kd_log_sum_exp_without_max(plant):
    """Exponentials are taken of logits as they come."""

    def fault(token_losses):
        def faulty(s, t, ids, labels, mix):
            p, q = ((x / mix.temperature).exp() for x in (t, s))
            sure = s.exp() / s.exp().sum(-1, keepdim=True)
            p, q = (x / x.sum(-1, keepdim=True) for x in (p, q))
            far = mix.temperature**2 * torch.xlogy(p, p / q).sum(-1).double()
            off = -sure.gather(1, labels[:, None]).squeeze(1).log().double()
            push = sure.scatter_add(1, labels[:, None], -torch.ones_like(sure[:, :1]))
            a, b = mix.alpha, 1 - mix.alpha
            return a * off + b * far, a * push + b * mix.temperature * (q - p)

        return faulty

    plant(f"{LOSSES}.token_losses", fault)


def kd_masked_is_no_number(plant):
    """Where both sides are masked, infinity is taken from infinity."""

    def fault(divergence):
        def faulty(s, t, ids, temperature, weight):
            loss, pull = divergence(s, t, ids, temperature, weight)
            return loss + 0 * (t - s).sum(-1), pull

        return faulty

    plant(f"{LOSSES}.divergence", fault)


def kd_zero_times_infinity(plant):
    """A term without weight is computed all the same, and 0 times infinity is no number."""

    def fault(token_losses):
        def faulty(s, t, ids, labels, mix):
            loss, push = token_losses(s, t, ids, labels, mix)
            other, _ = token_losses(s, t, ids, labels, replace(mix, alpha=1))
            return loss + 0 * other, push

        return faulty

    plant(f"{LOSSES}.token_losses", fault)


def kd_sums_are_narrow(plant):
    """Exponentials and their sums are in the type of the logits."""
    plant(f"{LOSSES}.wide", lambda wide: lambda x: x)


def kd_gradient_kept_in_float16(plant):
    """A gradient to float16 logits is rounded to float16 before it is scaled."""

    def fault(sweep):
        def faulty(student, *others):
            loss, gradient = sweep(student, *others)
            return loss, gradient.to(student.dtype).to(gradient.dtype)

        return faulty

    plant(f"{LOSSES}._sweep", fault)


def kd_mean_over_all_tokens(plant):
    """The sum over the tokens that count is divided by the number of all."""

    def fault(sweep):
        def faulty(student, teacher, ids, labels, *others):
            loss, gradient = sweep(student, teacher, ids, labels, *others)
            share = (labels >= 0).double().mean().item()
            return loss * share, gradient * share

        return faulty

    plant(f"{LOSSES}._sweep", fault)


def kd_ignored_labels_counted(plant):
    """A label of -100 is taken for token 0."""

    def fault(require_labels):
        def faulty(labels, *others):
            require_labels(labels, *others)
            labels.clamp_(min=0)

        return faulty

    plant("engine.distill.loss_inputs.require_labels", fault)


def kd_last_block_dropped(plant):
    """Of several blocks of rows the last is left out."""

    def fault(blocks):
        def faulty(*given):
            found = list(blocks(*given))
            return found[: max(1, len(found) - 1)]

        return faulty

    plant(f"{LOSSES}.blocks", fault)


def kd_mean_of_nothing(plant):
    """Where no token counts, nothing is divided by nothing."""

    def fault(loss_of):
        def faulty(student, teacher, ids, labels, mix):
            count = (labels >= 0).sum()
            return loss_of(student, teacher, ids, labels, mix) * (count / count)

        return faulty

    plant(f"{LOSSES}._loss", fault)


def kd_kept_not_renormalised(plant):
    """Kept logits are taken for logarithms of chances as they come, and need not sum to 1."""

    def fault(divergence):
        def faulty(s, t, ids, temperature, weight):
            if ids is None:
                return divergence(s, t, ids, temperature, weight)
            log_q, log_p = (s / temperature).log_softmax(-1), t / temperature
            loss = (log_p.exp() * (log_p - log_q.gather(1, ids))).sum(-1).double()
            pull = log_q.exp().scatter_add(1, ids, -log_p.exp())
            return weight * temperature**2 * loss, weight * temperature * pull

        return faulty

    plant(f"{LOSSES}.divergence", fault)


def kd_kept_by_rank(plant):
    """The k-th kept logit is taken for that of token k."""

    def fault(divergence):
        def faulty(s, t, ids, temperature, weight):
            by_rank = None if ids is None else torch.arange(t.shape[1]).expand_as(ids)
            return divergence(s, t, by_rank, temperature, weight)

        return faulty

    plant(f"{LOSSES}.divergence", fault)


def kd_shapes_unchecked(plant):
    """Shapes, types and devices are whatever torch makes of them."""
    plant("engine.distill.loss_inputs.require", lambda require: lambda *given, **others: None)


def kd_ids_unchecked(plant):
    """A label or an id beyond the vocabulary is torch's to find."""
    plant("engine.distill.loss_inputs._require_range", lambda require: lambda *given: None)


def kd_mix_unchecked(plant):
    """Any temperature and any alpha will do."""
    plant("engine.distill.loss_inputs.Mix.__post_init__", lambda check: lambda self: None)


def linear_last_chunk_dropped(plant):
    """What does not fill a chunk is left out."""

    def fault(chunks):
        return lambda rows, size: [each for each in chunks(rows, size) if len(each) == size]

    plant(f"{LINEAR}.chunks", fault)


def linear_mean_over_chunks(plant):
    """Each chunk weighs the same, the shorter last one too."""

    def fault(loss_of):
        def faulty(x, w, z, v, labels, *, chunk=None, **mix):
            there = labels >= 0
            size = chunk or labels.numel()
            parts = zip(*(each[there].split(size) for each in (x, z, labels)), strict=True)
            losses = [loss_of(x, w, z, v, y, chunk=chunk, **mix) for x, z, y in parts]
            return torch.stack(losses).mean()

        return faulty

    plant(f"{LINEAR}.linear_kd_loss", fault)


def linear_weight_learns_from_the_last_chunk(plant):
    """The weight's gradient is overwritten by each chunk."""
    plant(f"{LINEAR}.add_product", lambda add: lambda total, a, b: total.copy_(a @ b))


def linear_teacher_not_cut(plant):
    """Tokens that the student lacks keep their share of the teacher's distribution."""

    def fault(loss_of):
        def faulty(x, w, z, v, labels, **others):
            blind = torch.zeros(len(v) - len(w), w.shape[1])
            return loss_of(x, torch.cat([w, blind]), z, v, labels, **others)

        return faulty

    plant(f"{LINEAR}.linear_kd_loss", fault)


def linear_labels_shifted(plant):
    """In a chunk, each token is judged by the label of the one before it."""

    def fault(losses_of):
        return lambda s, t, labels, mix: losses_of(s, t, labels.roll(1), mix)

    plant(f"{LINEAR}.losses_of", fault)


def linear_all_in_one_chunk(plant):
    """The size of a chunk is not heeded."""

    def fault(loss_of):
        def faulty(*given, chunk=None, **mix):
            return loss_of(*given, chunk=given[-1].numel(), **mix)

        return faulty

    plant(f"{LINEAR}.linear_kd_loss", fault)


def linear_upstream_forgotten(plant):
    """The gradient is that of the loss itself, whatever is made of it afterwards."""

    def fault(backward):
        return lambda ctx, upstream: backward(ctx, torch.ones_like(upstream))

    plant(f"{LINEAR}._LinearLoss.backward", fault)


def linear_second_pass_multiplies_again(plant):
    """A second backward pass goes through, on what the first has multiplied."""

    def fault(backward):
        def faulty(ctx, upstream):
            if not hasattr(ctx, "found"):
                ctx.found = backward(ctx, upstream)
            return ctx.found

        return faulty

    plant(f"{LINEAR}._LinearLoss.backward", fault)


def linear_gradients_always(plant):
    """A loss carries a gradient, asked for or not."""

    def fault(loss_of):
        def faulty(*given, **mix):
            with torch.enable_grad():
                return loss_of(*given, **mix)

        return faulty

    plant(f"{LINEAR}.linear_kd_loss", fault)


def linear_autocast_unheeded(plant):
    """Under autocast, everything is in float32 all the same."""

    def fault(loss_of):
        def faulty(*given, **mix):
            with torch.autocast(given[0].device.type, enabled=False):
                return loss_of(*given, **mix)

        return faulty

    plant(f"{LINEAR}.linear_kd_loss", fault)
