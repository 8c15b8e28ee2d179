"""Learning rates as functions of the step, in graphs and in XLA.

    rate = schedules.cosine(1e-3, num_steps=9_000, warmup_steps=500)
    optimizer = optimizers.adam(rate)

The trap: a rate held as a Python number is frozen at tracing. A schedule gets the step
as a tensor, so it neither freezes nor retraces.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfreg import _checks

Schedule = Callable[[tf.Tensor], tf.Tensor]


def constant(value: float) -> Schedule:
    """Returns the schedule that is `value`, a finite float > 0; others: ValueError."""
    value = _checks.check_float("value", value, as_float32=True)
    return lambda step: tf.constant(value)


def cosine(
    peak: float, num_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> Schedule:
    """Returns half a cosine from `peak` to `final`, after a linear warm-up from 0.

    Args:
        peak: finite float > 0, the rate at step `warmup_steps`.
        num_steps: int > `warmup_steps`, the step from which on the rate is `final`.
        warmup_steps: int >= 0; above 0, the rate at step 0 is 0.
        final: finite float >= 0.

    Raises:
        ValueError: an argument is not what it must be.
    Source: Keras `CosineDecay`, whose decay_steps is `num_steps - warmup_steps`.
    """
    peak = _checks.check_float("peak", peak, as_float32=True)
    final = _checks.check_float("final", final, _checks.NONNEGATIVE, True)
    warmup_steps = _checks.check_int("warmup_steps", warmup_steps, 0)
    num_steps = _checks.check_int("num_steps", num_steps, warmup_steps + 1)

    def schedule(step):
        step = tf.cast(step, tf.float32)
        done = (step - warmup_steps) / (num_steps - warmup_steps)
        wave = (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0))) / 2.0
        ramp = tf.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
        return ramp * (final + (peak - final) * wave)

    return schedule


def piecewise(
    boundaries: Sequence[int], values: Sequence[float], warmup_steps: int = 0
) -> Schedule:
    """Returns `values[i]` up to and including step `boundaries[i]`, then the next.

    Args:
        boundaries: ints >= 0 that rise.
        values: finite floats >= 0, one more than boundaries.
        warmup_steps: int >= 0; up to there the rate is multiplied by step / this.

    Raises:
        ValueError: an argument is not what it must be.
    Source: Keras `PiecewiseConstantDecay`.
    """
    warmup_steps = _checks.check_int("warmup_steps", warmup_steps, 0)
    boundaries = [_checks.check_int("boundaries", value, 0) for value in boundaries]
    for before, boundary in itertools.pairwise(boundaries):
        _checks.check_int("boundaries", boundary, before + 1)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values must be {len(boundaries) + 1} floats, got {values}: one per piece"
        )
    values = [
        _checks.check_float("values", value, _checks.NONNEGATIVE, True)
        for value in values
    ]

    def schedule(step):
        passed = tf.cast(step, tf.int64) > tf.constant(boundaries, tf.int64)
        value = tf.gather(values, tf.math.count_nonzero(passed))
        step = tf.cast(step, tf.float32)
        return value * tf.minimum(step / warmup_steps, 1.0) if warmup_steps else value

    return schedule
