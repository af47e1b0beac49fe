"""Faults in the training loop, in checkpoints, and in who teaches."""

from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace

import torch
from safetensors.torch import save_file

from engine.distill import kd_loss
from engine.distill.checkpoint import Progress, Saved
from engine.distill.objective import Dense, Objective, Targets
from engine.distill.run import Plan
from engine.distill.student import fresh
from falsifiers import distill_cases as cases


class Mirror:
    """A teacher that is the student."""

    name = digest = "mirror"

    def __init__(self, student):
        self.model = deepcopy(student)

    @torch.no_grad()
    def logits(self, batch):
        return self.model.logits(batch.inputs)


def teacher_is_the_student(plant):
    """Both come from one checkpoint: the loss falls by its cross-entropy alone."""

    def fault(init):
        def faulty(self, student, targets, *rest, **options):
            mirror = Targets(Mirror(student), student.config.vocabulary_size, torch.device("cpu"))
            init(self, student, mirror, *rest, **options)

        return faulty

    plant("engine.distill.loop.Training.__init__", fault)


def teacher_is_noise(plant):
    """The teacher says whatever comes to its mind."""

    def fault(of):
        def faulty(self, batch):
            random = torch.Generator().manual_seed(batch.step)
            return Dense(torch.randn(*batch.inputs.shape, self._size, generator=random) * 4)

        return faulty

    plant("engine.distill.objective.Targets.of", fault)


def teacher_of_the_batch_before(plant):
    """What the teacher says belongs to the batch before."""

    def fault(of):
        before = []

        def faulty(self, batch):
            before.append(of(self, batch))
            return before[-2] if len(before) > 1 else before[-1]

        return faulty

    plant("engine.distill.objective.Targets.of", fault)


def alpha_is_one(plant):
    """The teacher counts for nothing."""
    plant("engine.distill.loop.objective", lambda make: lambda r: Objective(r.temperature, 1.0))


def alpha_is_zero(plant):
    """The text counts for nothing."""
    plant("engine.distill.loop.objective", lambda make: lambda r: Objective(r.temperature, 0.0))


def temperature_is_one(plant):
    """The recipe's temperature is forgotten."""
    plant("engine.distill.loop.objective", lambda make: lambda r: Objective(1.0, r.alpha))


def nobody_is_listened_to(plant):
    """Where there is no teacher, half of the loss is a uniform guess's."""

    def fault(loss):
        def faulty(self, hidden, weight, labels, goal):
            logits = torch.nn.functional.linear(hidden, weight)
            return kd_loss(logits, logits.detach() * 0, labels, temperature=1.0, alpha=0.5)

        return faulty

    plant("engine.distill.objective.TextAlone.loss", fault)


def nobody_has_a_share(plant):
    """A run without a teacher is taken with any alpha."""

    def fault(prepare):
        def faulty(plan, run, **options):
            alone = replace(plan, recipe=replace(plan.recipe, alpha=1.0))
            return prepare(alone if plan.teacher == "none" else plan, run, **options)

        return faulty

    plant("engine.distill.run.prepare", fault)


def learning_rate_is_zero(plant):
    """Nothing moves."""
    plant("engine.distill.recipe.Recipe.rate", lambda rate: lambda self, step: 0.0)


def schedule_ignored(plant):
    """The learning rate stays where it began."""
    plant("engine.distill.optimiser.set_rate", lambda set_rate: lambda optimiser, rate: None)


def schedule_a_step_late(plant):
    """Each step has the rate of the one before."""
    plant(
        "engine.distill.recipe.Recipe.rate",
        lambda rate: lambda self, step: rate(self, max(0, step - 1)),
    )


def warmup_missing(plant):
    """The first step is as long as any."""
    plant(
        "engine.distill.recipe.Recipe.rate",
        lambda rate: lambda self, step: rate(replace(self, warmup=0), step),
    )


def everything_decays(plant):
    """Norms' gains decay too."""

    def fault(make):
        def faulty(named, recipe):
            optimiser = make(named, recipe)
            for group in optimiser.param_groups:
                group["weight_decay"] = recipe.weight_decay
            return optimiser

        return faulty

    plant("engine.distill.optimiser.make_optimiser", fault)


def nothing_decays(plant):
    """Weight decay is forgotten."""
    plant(
        "engine.distill.optimiser.make_optimiser",
        lambda make: lambda named, recipe: make(named, replace(recipe, weight_decay=0.0)),
    )


def clipping_forgotten(plant):
    """A long gradient makes a long step."""
    plant("engine.distill.workers.clip", lambda clip: lambda parameters, most: clip(parameters, 0))


def a_copy_is_trained(plant):
    """The optimiser moves clones; the student stays as it was."""

    def fault(make):
        def faulty(named, recipe):
            named = list(named)
            clones = [(name, torch.nn.Parameter(each.detach().clone())) for name, each in named]
            for (_, clone), (_, each) in zip(clones, named, strict=True):
                each.register_hook(lambda gradient, clone=clone: setattr(clone, "grad", gradient))
            return make(clones, recipe)

        return faulty

    plant("engine.distill.optimiser.make_optimiser", fault)


def update_backwards(plant):
    """The student climbs."""

    def fault(set_rate):
        def faulty(optimiser, rate):
            for group in optimiser.param_groups:
                group["maximize"] = True
            set_rate(optimiser, rate)

        return faulty

    plant("engine.distill.optimiser.set_rate", fault)


def hidden_detached(plant):
    """No gradient reaches the layers."""

    def fault(forward):
        return lambda self, ids, then: forward(self, ids, lambda h, w: then(h.detach(), w))

    plant("engine.distill.student.Student.forward", fault)


def last_accumulation_dropped(plant):
    """The last part of each batch counts for nothing."""

    def fault(prepare):
        def faulty(self, piece):
            work = prepare(self, piece)
            last = piece[1] == self.recipe.accumulate - 1
            return replace(work, share=0.0) if last and piece[1] else work

        return faulty

    plant("engine.distill.loop.Training._prepare", fault)


def parts_summed(plant):
    """Each part counts as a whole batch."""

    def fault(prepare):
        return lambda self, piece: replace(prepare(self, piece), share=1.0)

    plant("engine.distill.loop.Training._prepare", fault)


def untrained_copy_saved(plant):
    """What is saved is a clone from before the training."""

    def fault(save):
        def faulty(run, progress, tensors, moments, hf, tokenizer):
            clone = dict(fresh(hf, "clone", 0).named_parameters())
            clone = {name: each.detach() for name, each in clone.items()}
            return save(run, progress, clone, moments, hf, tokenizer)

        return faulty

    plant("engine.distill.checkpoint.save", fault)


def header_only(plant):
    """A file of 200 bytes, and nobody looks."""

    def fault(write):
        def faulty(folder, tensors, hf, tokenizer):
            write(folder, tensors, hf, tokenizer)
            save_file({}, folder / "model.safetensors", metadata={"format": "pt"})

        return faulty

    plant("engine.distill.hf_folder.write_folder", fault)
    plant("engine.distill.checkpoint.verify", lambda verify: lambda folder: None)


def experts_change_places_in_the_file(plant):
    """The first two experts of each layer are saved as each other."""

    def fault(renamed):
        def faulty(tensors):
            swap = {".experts.0.": ".experts.1.", ".experts.1.": ".experts.0."}
            found = renamed(tensors)
            for old, new in swap.items():
                pairs = {n.replace(old, new): t for n, t in renamed(tensors).items() if old in n}
                found |= pairs
            return found

        return faulty

    plant("engine.distill.hf_folder.hf_tensors", fault)


def saved_in_sixteen_bits(plant):
    """What was trained in float32 is saved in less."""

    def fault(write):
        def faulty(folder, tensors, hf, tokenizer):
            write(folder, {n: t.bfloat16().float() for n, t in tensors.items()}, hf, tokenizer)

        return faulty

    plant("engine.distill.hf_folder.write_folder", fault)


def written_in_place(plant):
    """The folder is at its place before it is whole, and what was there is gone."""

    def fault(save):
        def faulty(run, progress, tensors, moments, hf, tokenizer):
            place = run / "checkpoints" / f"step-{progress.step:08d}"
            place.mkdir(parents=True, exist_ok=True)
            from engine.distill.checkpoint import point

            point(run / "last", place)
            return save(run, progress, tensors, moments, hf, tokenizer)

        return faulty

    plant("engine.distill.checkpoint.save", fault)


def best_is_the_newest(plant):
    """Whatever comes last is called the best."""

    def fault(save):
        def faulty(run, progress, *rest):
            return save(run, replace(progress, best_step=progress.step), *rest)

        return faulty

    plant("engine.distill.checkpoint.save", fault)


def optimiser_starts_afresh(plant):
    """The moments of AdamW are lost by a stop."""
    plant("engine.distill.optimiser.restore", lambda restore: lambda *given: None)


def optimiser_forgets_its_steps(plant):
    """AdamW's correction of its bias begins anew."""

    def fault(restore):
        return lambda optimiser, named, state, steps: restore(optimiser, named, state, 0)

    plant("engine.distill.optimiser.restore", fault)


def cursor_reset(plant):
    """Data begins anew after a stop."""

    def fault(pieces):
        def faulty(self, first):
            for step, part in pieces(self, first):
                yield step - first, part

        return faulty

    plant("engine.distill.loop.Training._pieces", fault)


def best_is_forgotten(plant):
    """A resumed run takes its first held-out loss for the best."""

    def fault(load):
        def faulty(folder):
            saved = load(folder)
            return Saved(Progress(saved.progress.step), saved.moments)

        return faulty

    plant("engine.distill.checkpoint.load", fault)


def metrics_pile_up(plant):
    """Lines of steps that were never saved stay."""

    def fault(init):
        return lambda self, run, step=0: init(self, run, 10**9 if step else 0)

    plant("engine.distill.journal.Journal.__init__", fault)


def ring_reorders(plant):
    """Two pieces of work change places."""

    def fault(take):
        held = {}

        def faulty(self, stopped=bool):
            if self in held:
                return held.pop(self)
            if not self._ahead:
                return take(self, stopped)
            first = take(self, stopped)
            try:
                second = take(self, stopped)
            except Exception:
                return first
            held[self] = first
            return second

        return faulty

    plant("engine.distill.ring.Ring.take", fault)


def ring_waits_in_line(plant):
    """The next piece is begun when it is asked for."""

    def fault(init):
        return lambda self, make, items, depth, device=None: init(self, make, items, 0, device)

    plant("engine.distill.ring.Ring.__init__", fault)


def ring_swallows_errors(plant):
    """What goes wrong in the thread ends the work as if it were done."""

    def fault(step):
        from engine.distill.ring import Ended

        def faulty(self):
            made, error = step(self)
            return made, None if error is None else Ended()

        return faulty

    plant("engine.distill.ring.Ring._next", fault)


def nonfinite_goes_on(plant):
    """A loss that is not finite is a loss like any other."""
    plant("engine.distill.loop.isfinite", lambda isfinite: lambda number: True)


def nonfinite_unnamed(plant):
    """The error names neither the step nor the batch."""
    plant(
        "engine.distill.loop.Training._not_finite",
        lambda message: lambda self, *given: "loss: found nan, expected a finite number",
    )


def mirror_by_path_alone(plant):
    """A copy elsewhere is another model."""

    def fault(is_mirror):
        return lambda teacher, student, path: teacher.name == str(path)

    plant("engine.distill.guard.is_mirror", fault)


def mirror_by_bytes_alone(plant):
    """The same numbers in another type are another model."""
    plant("engine.distill.guard._same_weights", lambda same: lambda *given: False)


def everything_is_a_mirror(plant):
    """The guard refuses by shape."""
    plant("engine.distill.guard.is_mirror", lambda is_mirror: lambda *given: True)


def mirror_only_told(plant):
    """The guard warns, and the days of a GPU go by."""

    def fault(refuse):
        return lambda teacher, student, path, steps, allowed=False: refuse(
            teacher, student, path, steps, allowed=True
        )

    plant("engine.distill.guard.refuse_mirror", fault)


def signals_unheard(plant):
    """Ctrl-C and SIGTERM do not reach the loop."""
    plant("engine.distill.stop.Stop.__call__", lambda call: lambda self: False)


def stops_without_saving(plant):
    """It stops, and what it has learned since the last checkpoint is gone."""

    def fault(save):
        def faulty(self):
            if self.progress.step in (1, self.recipe.steps) or self.progress.best_step:
                save(self)

        return faulty

    plant("engine.distill.loop.Training._save", fault)


def stops_as_if_done(plant):
    """Whoever stopped it reads exit code 0."""
    plant("engine.cli_train._code", lambda code: lambda stop: 0)


def every_process_has_the_same_rows(plant):
    """The first rows go to all."""
    plant(
        "engine.distill.workers.Workers.rows",
        lambda rows: lambda self, count: slice(0, count // self.count),
    )


def processes_keep_their_gradients(plant):
    """Nobody tells the others what was learned."""
    plant(
        "engine.distill.workers.Workers.prepare",
        lambda prepare: lambda self, student: prepare(replace(self, count=1), student),
    )


def shares_of_processes_unscaled(plant):
    """An average of processes is taken for their sum."""

    def fault(gradients):
        def faulty(self, ring, stopped):
            workers = self.workers
            self.workers = replace(workers, count=1)
            try:
                loss, windows = gradients(self, ring, stopped)
            finally:
                self.workers = workers
            return workers.sum(loss)[0], windows

        return faulty

    plant("engine.distill.loop.Training._gradients", fault)


def cache_is_not_read(plant):
    """The teacher is asked, although there is a cache."""

    def fault(of):
        return lambda self, batch: Dense(cases.teacher().logits(batch))

    plant("engine.distill.objective.Targets.of", fault)


def dry_run_of_a_run_writes(plant):
    """A dry run leaves a dispatch.json behind."""

    def fault(prepare):
        def faulty(plan, run, **options):
            ready = prepare(plan, run, **options)
            from engine.distill.journal import write_dispatch

            write_dispatch(run, {})
            return ready

        return faulty

    plant("engine.distill.run.prepare", fault)


def run_written_over(plant):
    """An old run in the same folder is lost."""

    def fault(prepare):
        def faulty(plan, run, **options):
            (run / "dispatch.json").unlink(missing_ok=True)
            return prepare(plan, run, **options)

        return faulty

    plant("engine.distill.run.prepare", fault)


def early_end_is_the_end(plant):
    """A run that ended before its first checkpoint can neither be begun nor resumed."""
    plant("engine.distill.checkpoint.has_saved", lambda has_saved: lambda run: True)


def looks_untold(plant):
    """A run says nothing of its held-out losses."""

    def fault(shown):
        @contextmanager
        def faulty(*arguments):
            with shown(*arguments) as see:
                yield lambda row: None if "heldout_loss" in row else see(row)

        return faulty

    plant("engine.cli_train._shown", fault)


def teacher_device_ignored(plant):
    """The teacher goes where the student is, whatever was asked for."""

    def fault(open_teacher):
        return lambda spec, **options: open_teacher(spec, **options | {"device": "cpu"})

    plant("engine.distill.teachers.open_teacher", fault)


def precision_ignored(plant):
    """Products are made in float32, whatever the recipe says."""
    plant("engine.distill.judge.precision", lambda precision: lambda recipe, device: nullcontext())


def resume_believes(plant):
    """A run goes on with whatever it finds."""
    plant("engine.distill.run._require_same", lambda same: lambda run, ready: None)


def dispatch_forgets_the_recipe(plant):
    """Hyperparameters are not written down."""

    def fault(dispatch):
        def faulty(self, workers):
            found = dispatch(self, workers)
            recipe = {k: v for k, v in found["plan"]["recipe"].items() if k != "weight_decay"}
            return {**found, "plan": {**found["plan"], "recipe": recipe}}

        return faulty

    plant("engine.distill.run.Ready.dispatch", fault)


def metrics_end_early(plant):
    """Of a run's metrics only the first row is read."""
    plant("engine.distill.journal.read_metrics", lambda read: lambda run: read(run)[:1])


def resume_with_other_options(plant):
    """Options beside --resume are ignored."""
    plant("engine.cli_train._require_nothing_else", lambda require: lambda context: None)


def looked_at_where_the_run_is(plant):
    """A dry run of a run that goes on takes no other device."""

    def fault(as_begun):
        return lambda run, context: Plan.from_dispatch(run)

    plant("engine.cli_train._as_begun", fault)
