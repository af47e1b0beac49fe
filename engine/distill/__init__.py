"""Knowledge distillation: a student learns a teacher's distribution over the next token."""

from engine.distill.linear_loss import linear_kd_loss
from engine.distill.losses import kd_logit_gradient, kd_loss, sparse_kd_loss

__all__ = ["kd_logit_gradient", "kd_loss", "linear_kd_loss", "sparse_kd_loss"]
