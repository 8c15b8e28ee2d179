"""Optimizers with fused updates, schedules and sums over replicas.

For authors of training steps: `adam(1e-3).apply(gradients, variables)`.
"""

from tfreg._tensorflow import assign
from tfreg.optimizers.after import Ema, constrain, ema, max_norm, non_negative
from tfreg.optimizers.decays import Decay, decay
from tfreg.optimizers.gradients import global_norm, sum_over_replicas
from tfreg.optimizers.grouping import Groups, adapt, groups, layerwise
from tfreg.optimizers.kernels import (
    adagrad,
    adam,
    adamw,
    momentum,
    rmsprop,
    sgd,
)
from tfreg.optimizers.optimizer import Optimizer

__all__ = [
    "Decay",
    "Ema",
    "Groups",
    "Optimizer",
    "adagrad",
    "adam",
    "adamw",
    "adapt",
    "assign",
    "constrain",
    "decay",
    "ema",
    "global_norm",
    "groups",
    "layerwise",
    "max_norm",
    "momentum",
    "non_negative",
    "rmsprop",
    "sgd",
    "sum_over_replicas",
]
