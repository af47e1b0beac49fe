"""The processes that train together: one alone, or those that `torchrun` started.

Knows torch.distributed, DDP and FSDP2; knows nothing of losses. Each process has its own rows of
every batch, and the same weights: DDP keeps them whole on each, FSDP2 a part on each, put together
a layer at a time when it is used.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from engine.distill.student import Student, Then
from engine.errors import EngineError

SHARDINGS = ("ddp", "fsdp2")
Step = Callable[[Tensor, Then], Tensor]


@dataclass(frozen=True)
class Workers:
    """This process among `count`, and its device."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")
    sharding: str = "ddp"

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def prepare(self, student: Student) -> Step:
        """The student on this process's device, joined with the others'; its forward pass."""
        student.to(self.device)
        if self.count == 1:
            return student
        if self.sharding == "fsdp2":
            # Imported here, as they take a second and 40 MB.
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            # Said of experts' outputs; nothing here is changed in place.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            mesh = init_device_mesh(self.device.type, (self.count,))
            for block in student.blk:
                fully_shard(block, mesh=mesh)
            fully_shard(student, mesh=mesh)  # which changes it in place
            return student
        on = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(student, device_ids=on)

    def rows(self, count: int) -> slice:
        """Which of `count` rows are this process's; refuses what cannot be dealt out evenly."""
        if count % self.count:
            raise EngineError(
                f"batch: found {count} windows in a part, expected a multiple of the "
                f"{self.count} processes"
            )
        each = count // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, *numbers: float) -> list[float]:
        """Each number, summed over the processes."""
        if self.count == 1:
            return list(numbers)
        both = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(both)
        summed: list[float] = both.tolist()
        return summed


@contextmanager
def joined(device: str, sharding: str, count: int = 1, local: int = 0) -> Iterator[Workers]:
    """The `count` processes that `torchrun` started, joined while the body runs.

    `local` is this one's number on its host, and its CUDA device's.
    """
    if sharding not in SHARDINGS:
        raise EngineError(f"sharding: found {sharding!r}, expected one of {', '.join(SHARDINGS)}")
    if count == 1:
        yield Workers(device=torch.device(device), sharding=sharding)
        return
    place = torch.device(device)
    if place.type == "cuda":
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Workers(distributed.get_rank(), count, place, sharding)
    finally:
        distributed.destroy_process_group()


def clip(parameters: list[nn.Parameter], most: float) -> float:
    """Scale the gradients down to a norm of `most`, 0 for no limit; the norm that they had."""
    norm = nn.utils.clip_grad_norm_(parameters, most or float("inf"))
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
