"""Which ids may be drawn: temperature, then top-k, top-p and min-p, written out in numpy."""

import numpy as np
import torch


def allowed(logits: np.ndarray, temperature: float, k: int, p: float, least: float) -> set[int]:
    """The ids that are left."""
    scaled = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    order = np.argsort(-scaled, kind="stable")[: k or None]
    share = scaled[order] / scaled[order].sum()
    before = np.cumsum(share) - share
    return {
        int(i)
        for i, b, s in zip(order, before, share, strict=True)
        if b < p and s >= least * share[0]
    }


# Logits, and (temperature, top-k, top-p, min-p): each filter alone, and where their order tells.
LOGITS = torch.tensor([1.0, 2.5, 0.5, 2.0, -1.0, 2.2, 1.8, 0.0])
CASES = [
    (LOGITS, parameters)
    for parameters in [
        (1.0, 0, 1.0, 0.0),
        (1.0, 3, 1.0, 0.0),
        (1.0, 0, 0.6, 0.0),
        (1.0, 0, 1.0, 0.5),
        (1.0, 4, 0.6, 0.0),
        (3.0, 0, 0.6, 0.0),
        (0.5, 0, 1.0, 0.3),
        (2.0, 5, 0.8, 0.6),
    ]
]
