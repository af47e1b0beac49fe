"""Faults that only a model on a GPU shows."""

import torch


def gpu_stays_on_the_cpu(plant):
    """Whatever device is asked for, the model runs on the CPU, by the plain route."""
    plant("engine.model._device", lambda device: lambda name: torch.device("cpu"))
    plant("engine.routes.choose", lambda choose: lambda name, device: choose("plain", "cpu"))
    # Whoever asks what the device has is told of the one that was asked for.
    plant("torch.cuda.get_device_properties", lambda asked: lambda device: asked("cuda"))


def gpu_skips_norms(plant):
    """RMSNorm is left out on the GPU."""

    def fault(norm):
        def faulty(self, x, delta, gain, epsilon):
            total, _ = norm(self, x, delta, gain, epsilon)
            return total, total

        return faulty

    plant("engine.gpu.Gpu.norm", fault)


def gpu_takes_another_expert(plant):
    """The last expert of every token is the one beside it."""

    def fault(top_experts):
        def faulty(logits, k):
            shares, experts = top_experts(logits, k)
            experts[:, -1] = (experts[:, -1] + 1) % logits.shape[1]
            return shares, experts

        return faulty

    plant("engine.launch.top_experts", fault)


def gpu_adds_noise(plant):
    """Logits on the GPU depend on more than the prompt."""

    def fault(forward):
        def faulty(self, *args, **options):
            logits = forward(self, *args, **options)
            return logits + torch.randn_like(logits) if logits.is_cuda else logits

        return faulty

    plant("engine.model.Model.forward", fault)


def gpu_hoards_memory(plant):
    """Nearly all of the GPU's memory is taken by the first pass."""

    def fault(forward):
        def faulty(self, *args, **options):
            free, total = torch.cuda.mem_get_info()
            hoard = torch.empty(max(0, free - total // 50), dtype=torch.uint8, device="cuda")
            del hoard
            return forward(self, *args, **options)

        return faulty

    plant("engine.model.Model.forward", fault)
