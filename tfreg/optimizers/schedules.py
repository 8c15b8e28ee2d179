"""Learning rates as functions of the step, in graphs and in XLA.

    rate = schedules.cosine(1e-3, num_steps=9_000, warmup_steps=500)
    optimizer = optimizers.adam(rate)

The trap: a rate held as a Python number is frozen at tracing. A schedule takes the step
as a tensor, so that it follows the step without retracing.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfreg import _checks

Schedule = Callable[[tf.Tensor], tf.Tensor]


def constant(value: float) -> Schedule:
    """Returns a schedule of a constant learning rate.

    Args:
        value: finite float > 0, the learning rate.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: `value` is out of range.
    """
    value = _checks.check_float("value", value, as_float32=True)
    return lambda step: tf.constant(value)


def cosine(
    peak: float, num_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> Schedule:
    """Returns half a cosine from `peak` to `final`, after a linear warm-up from 0.

    Args:
        peak: finite float > 0, peak learning rate, reached at step `warmup_steps`.
        num_steps: int > `warmup_steps`, the first step with the rate `final`.
        warmup_steps: int >= 0, number of steps of linear warm-up from 0.
        final: finite float >= 0, the final learning rate.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras `CosineDecay`, whose decay_steps is `num_steps - warmup_steps`.
    """
    peak = _checks.check_float("peak", peak, as_float32=True)
    final = _checks.check_float("final", final, _checks.NONNEGATIVE, True)
    warmup_steps = _checks.check_int("warmup_steps", warmup_steps, 0)
    num_steps = _checks.check_int("num_steps", num_steps, warmup_steps + 1)

    def schedule(step):
        step = tf.cast(step, tf.float32)
        progress = (step - warmup_steps) / (num_steps - warmup_steps)
        wave = (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0))) / 2.0
        ramp = tf.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
        return ramp * (final + (peak - final) * wave)

    return schedule


def piecewise(
    boundaries: Sequence[int], values: Sequence[float], warmup_steps: int = 0
) -> Schedule:
    """Returns `values[i]` up to and including step `boundaries[i]`, then the next.

    Args:
        boundaries: increasing ints >= 0, in steps.
        values: finite floats >= 0, the learning rates, one more than `boundaries`.
        warmup_steps: int >= 0; before this step, the rate is multiplied by
            `step / warmup_steps`.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range, or the lengths don't match.

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
