"""Optimizers with fused updates, schedules and sums over replicas.

For authors of training steps: `adam(1e-3).apply(gradients, variables)`.
"""

from tfreg._tensorflow import assign
from tfreg.optimizers.foreign import adapt
from tfreg.optimizers.gradients import global_norm, sum_over_replicas
from tfreg.optimizers.kernels import (
    Optimizer,
    adagrad,
    adam,
    adamw,
    momentum,
    rmsprop,
    sgd,
)

__all__ = [
    "Optimizer",
    "adagrad",
    "adam",
    "adamw",
    "adapt",
    "assign",
    "global_norm",
    "momentum",
    "rmsprop",
    "sgd",
    "sum_over_replicas",
]
