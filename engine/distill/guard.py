"""The guard against learning from a mirror: a teacher that is the student.

Knows contents of models, and no paths. The loss of such a run falls nicely, by its cross-entropy
alone, while the teacher's part is zero from the first step: days of a GPU have been lost so.
"""

from pathlib import Path

import torch

from engine.checkpoint import open_checkpoint
from engine.distill.digest import content_digest
from engine.distill.student import Student
from engine.distill.teachers import ModelTeacher, Teacher
from engine.errors import EngineError
from engine.gguf import Bytes, Checkpoint, RawTensor
from engine.hf_config import hyperparameters

LONG = 5000  # steps, from which such a run costs more than a trial


def refuse_mirror(
    teacher: Teacher, student: Student, path: Path, steps: int, *, allowed: bool = False
) -> bool:
    """Whether the teacher is the student, which a run of `LONG` steps must have `allowed`."""
    mirror = is_mirror(teacher, student, path)
    if mirror and steps >= LONG and not allowed:
        raise EngineError(
            f"teacher: found {teacher.name}, whose contents are the student's ({path}), expected "
            f"another model for a run of {steps} steps: there is nothing to learn from it; "
            "allow it by --allow-mirror if that is meant"
        )
    return mirror


def is_mirror(teacher: Teacher, student: Student, path: Path) -> bool:
    """Whether the teacher's contents are the student's, in whatever files and types they lie."""
    if teacher.digest == student_digest(student):
        return True
    if path.is_dir() and teacher.digest == content_digest(open_checkpoint(path)):
        return True
    return isinstance(teacher, ModelTeacher) and _same_weights(teacher, student)


def student_digest(student: Student) -> str:
    """Of the contents, as a file of them in float32 would have it."""
    tensors = {
        name: RawTensor((_bytes(each.detach()),), "F32", tuple(each.shape))
        for name, each in student.named_parameters()
    }
    return content_digest(Checkpoint(Path(), hyperparameters(student.hf), tensors))


def _bytes(tensor: torch.Tensor) -> Bytes:
    found: Bytes = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def _same_weights(teacher: ModelTeacher, student: Student) -> bool:
    """Whether the decoded weights are equal; the first that differs ends the comparison."""
    ours, theirs = dict(student.named_parameters()), teacher.model.weights
    if {name: tuple(each.shape) for name, each in ours.items()} != {
        name: tuple(each.shape) for name, each in theirs.items()
    }:
        return False
    return all(
        torch.equal(theirs[name].dequantise().cpu(), each.detach().cpu())
        for name, each in ours.items()
    )
