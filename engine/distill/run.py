"""A run from its plan: what it needs is opened and looked at before anything is trained.

Knows which files a run has and what must fit together; knows nothing of steps, options or
terminals. `dispatch.json` is the plan, with the digest of everything that it names.
"""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.disk import require_room
from engine.distill import checkpoint
from engine.distill.checkpoint import Progress, Saved
from engine.distill.data import Source, Synthetic, open_data
from engine.distill.guard import refuse_mirror, student_digest
from engine.distill.journal import DISPATCH, read_dispatch, write_dispatch
from engine.distill.loop import Row, Training
from engine.distill.objective import Targets
from engine.distill.recipe import Recipe
from engine.distill.student import Student, open_student
from engine.distill.teachers import NoTeacher, Teacher, check_tokens, open_teacher
from engine.distill.vocabulary import vocabulary_digest
from engine.distill.workers import Workers
from engine.errors import EngineError, FormatError, naming
from engine.tokenizer import Tokenizer
from engine.tokenizer_json import read_tokenizer_folder

SCHEMA = "engine/distill/dispatch/v1"
PACKAGES = ("torch", "numpy", "safetensors", "tokenizers")
SYNTHETIC = "synthetic"  # data that come from the seed alone
KEPT = 3  # checkpoints at most: the newest, the best, and one that is being written


@dataclass(frozen=True)
class Plan:
    """What to do, and where; paths are as they were given."""

    teacher: str
    student: str
    data: str
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "cpu"
    teacher_device: str = "cpu"
    route: str = "auto"
    sharding: str = "ddp"
    ahead: int = 2  # pieces of work that the teacher may be ahead of the student
    allow_mirror: bool = False

    @classmethod
    def from_dispatch(cls, run: Path) -> "Plan":
        """The plan of a run that was started."""
        found = read_dispatch(run)
        if found.get("schema") != SCHEMA:
            raise FormatError(
                f"{run / DISPATCH}: found schema {found.get('schema')!r}, expected {SCHEMA}"
            )
        plan = found["plan"]
        return cls(**{**plan, "recipe": Recipe.from_dict(plan["recipe"])})


@dataclass(frozen=True)
class Ready:
    """A plan whose parts are open and fit together."""

    plan: Plan
    teacher: Teacher
    student: Student
    data: Source
    held_out: Source
    mirror: bool  # the teacher is the student
    saved: Saved | None = None
    tokenizer: Path | None = None  # the folder whose tokenizer the student has

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(each.numel() for each in self.student.parameters())

    def dispatch(self, workers: Workers) -> dict[str, Any]:
        """What the run is a function of: the plan, and digests of contents."""
        names = ("tollens", *PACKAGES)
        return {
            "schema": SCHEMA,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "plan": asdict(self.plan),
            "digests": self.digests(),
            "student_digest": student_digest(self.student),
            "parameters": self.parameters,
            "windows": {"train": len(self.data), "held_out": len(self.held_out)},
            "mirror": self.mirror,
            "processes": workers.count,
            "versions": {"python": platform.python_version()} | {n: _version(n) for n in names},
        }

    def digests(self) -> dict[str, str]:
        """Of what must be the same when the run is resumed."""
        found = {"teacher": self.teacher.digest, "data": self.data.digest}
        return found | {"held_out": self.held_out.digest}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def prepare(
    plan: Plan, run: Path, *, resume: bool = False, teacher_device: str | None = None
) -> Ready:
    """Open everything and refuse what does not fit, before a file is written.

    `teacher_device` is this process's own, where the plan's is one for each of several.
    Raises `EngineError`, `FormatError` or `TensorError`, naming what was found and expected.
    """
    if not resume and (run / DISPATCH).exists():
        raise EngineError(f"{run}: found a run, expected another folder, or --resume {run}")
    place = checkpoint.newest(run) if resume and checkpoint.has_saved(run) else None
    recipe, path = plan.recipe, Path(plan.student)
    student = open_student(place or path, seed=recipe.seed)
    size = student.config.vocabulary_size
    data, held_out = _open_data(plan, size)
    if recipe.seq_len > student.config.context_length:
        raise EngineError(
            f"{plan.student}: found windows of {recipe.seq_len} tokens, expected at most the "
            f"student's context length of {student.config.context_length}"
        )
    device = teacher_device or plan.teacher_device
    teacher = open_teacher(plan.teacher, device=device, route=plan.route, data=data)
    if isinstance(teacher, NoTeacher) and recipe.alpha != 1:
        raise EngineError(f"alpha: found {recipe.alpha}, expected 1 where there is no teacher")
    folder = tokenizer_folder(place or path, Path(plan.data))
    if folder is not None:
        _check_tokens(folder, teacher, data)
    allowed = plan.allow_mirror or place is not None  # where it was looked at when the run began
    mirror = refuse_mirror(teacher, student, path, recipe.steps, allowed=allowed)
    saved = checkpoint.load(place) if place else None
    ready = Ready(plan, teacher, student, data, held_out, mirror, saved, folder)
    parent = next(each for each in (run, *run.absolute().parents) if each.exists())
    require_room(parent, KEPT * 12 * ready.parameters)  # float32 weights and two moments each
    if resume:
        _require_same(run, ready)
    return ready


def execute(
    ready: Ready,
    run: Path,
    workers: Workers,
    see: Callable[[Row], None] = lambda row: None,
    stopped: Callable[[], bool] = bool,
) -> Progress:
    """Train what is ready, in the folder `run`; returns how far it came."""
    workers.sum(0.0)  # no process writes before all have looked
    if ready.saved is None and workers.first:
        write_dispatch(run, ready.dispatch(workers))
    targets = Targets(ready.teacher, ready.student.config.vocabulary_size, workers.device)
    training = Training(
        ready.student,
        targets,
        ready.data,
        ready.held_out,
        ready.plan.recipe,
        run,
        workers=workers,
        saved=ready.saved,
        tokenizer=ready.tokenizer,
        ahead=ready.plan.ahead,
    )
    return training.train(see, stopped)


def _open_data(plan: Plan, size: int) -> tuple[Source, Source]:
    """What to learn from and what to judge by, of tokens below `size`."""
    recipe = plan.recipe
    if plan.data == SYNTHETIC:
        windows = recipe.steps * recipe.batch
        language = partial(Synthetic, recipe.seq_len, vocabulary_size=size, seed=recipe.seed)
        return language(windows=windows), language(held_out=True)
    return open_data(plan.data, recipe.seq_len, vocabulary_size=size, seed=recipe.seed)


def _check_tokens(folder: Path, teacher: Teacher, data: Source) -> None:
    """Refuse a student whose ids mean other tokens than the teacher's or the corpus's."""
    with naming(folder):
        student = Tokenizer.from_metadata(read_tokenizer_folder(folder))
    check_tokens(teacher, student)
    if data.vocabulary not in (None, vocabulary_digest(student)):
        raise EngineError(
            f"{folder}: found a student's tokenizer that is not the corpus's, expected the one "
            "that the corpus was made with: python -m engine corpus --tokenizer"
        )


def _require_same(run: Path, ready: Ready) -> None:
    """Refuse to go on with another teacher or other data than the run began with."""
    before, now = read_dispatch(run)["digests"], ready.digests()
    for what in now:
        if before.get(what) != now[what]:
            raise EngineError(
                f"{run}: found other contents of {what} ({now[what]:.12}) than the run began with "
                f"({before.get(what, 'none'):.12}), expected the same, or a new run"
            )


def tokenizer_folder(student: Path, data: Path) -> Path | None:
    """Where the tokenizer is that the student will be published with, if anywhere."""
    folders = [student if student.is_dir() else student.parent, data]
    return next((each for each in folders if (each / "tokenizer.json").is_file()), None)
