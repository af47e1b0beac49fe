"""AdamW with decoupled decay over a student's parameters, and its state as named tensors.

Knows torch's AdamW (arXiv 1711.05101) and which parameters decay; knows nothing of schedules,
losses or files. Parameters that are sharded over processes are put together and taken apart.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from engine.distill.recipe import Recipe
from engine.errors import FormatError

STATE = ("exp_avg", "exp_avg_sq")


def make_optimiser(named: Iterable[tuple[str, nn.Parameter]], recipe: Recipe) -> AdamW:
    """Matrices decay; gains of norms and biases, which are vectors, do not."""
    parameters = [each for _, each in named]
    matrices = [each for each in parameters if each.dim() > 1]
    vectors = [each for each in parameters if each.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (recipe.beta1, recipe.beta2)
    return AdamW(groups, recipe.learning_rate, betas, recipe.epsilon, fused=True)


def set_rate(optimiser: AdamW, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def state_of(optimiser: AdamW, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Both moments of every parameter that has been updated: `exp_avg.blk.0.attn_q.weight`."""
    return {
        f"{kind}.{name}": whole(optimiser.state[each][kind])
        for name, each in named.items()
        for kind in STATE
        if each in optimiser.state
    }


def restore(
    optimiser: AdamW, named: Mapping[str, nn.Parameter], state: Mapping[str, Tensor], steps: int
) -> None:
    """Put back what `state_of` gave after so many steps."""
    expected = {f"{kind}.{name}" for name in named for kind in STATE}
    for name in sorted(expected ^ state.keys()):
        found = "nothing" if name in expected else "it"
        raise FormatError(f"optimiser state {name}: found {found}, expected every parameter's only")
    for name, each in named.items():
        moments = {kind: like(state[f"{kind}.{name}"], each) for kind in STATE}
        count = torch.tensor(float(steps), device=each.device)
        optimiser.state[each] = {"step": count, **moments}


def whole(tensor: Tensor) -> Tensor:
    """A tensor on this process, all of it; every process must ask where it is sharded."""
    tensor = tensor.detach()
    if not hasattr(tensor, "full_tensor"):
        return tensor
    everything: Tensor = tensor.full_tensor()
    return everything


def like(found: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, laid out and placed as `parameter` is."""
    if not hasattr(parameter, "full_tensor"):
        return found.to(parameter.device).clone()
    from torch.distributed.tensor import DTensor, distribute_tensor  # which takes a second

    if not isinstance(parameter, DTensor):
        raise FormatError(f"optimiser state: found a parameter of {type(parameter)}")
    moved = found.to(parameter.device_mesh.device_type)
    return distribute_tensor(moved, parameter.device_mesh, parameter.placements)
