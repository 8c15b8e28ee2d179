"""Learning rates as functions of the step, in graphs and in XLA.

    rate = schedules.cosine(1e-3, num_steps=9_000, warmup_steps=500)
    optimizer = optimizers.adam(rate)

The trap: a rate held as a Python number is frozen at tracing. A schedule gets the step
as a tensor, so it neither freezes nor retraces.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

Schedule = Callable[[tf.Tensor], tf.Tensor]

POSITIVE, NONNEGATIVE, FRACTION = "> 0", ">= 0", ">= 0 and < 1"


def constant(value: float) -> Schedule:
    """Returns the schedule that is `value`, a finite float > 0; others: ValueError."""
    value = check_float("value", value, POSITIVE)
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

    Raises: ValueError: an argument is not what it must be.
    Source: Keras `CosineDecay`, whose decay_steps is `num_steps - warmup_steps`.
    """
    peak = check_float("peak", peak, POSITIVE)
    final = check_float("final", final, NONNEGATIVE)
    _check_int("warmup_steps", warmup_steps, 0)
    _check_int("num_steps", num_steps, warmup_steps + 1)

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

    Raises: ValueError: an argument is not what it must be.
    Source: Keras `PiecewiseConstantDecay`.
    """
    boundaries = list(boundaries)
    _check_int("warmup_steps", warmup_steps, 0)
    for before, boundary in zip([-1, *boundaries], boundaries, strict=False):
        _check_int("boundaries", boundary, before + 1)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values must be {len(boundaries) + 1} floats, got {values}: one per piece"
        )
    values = [check_float("values", value, NONNEGATIVE) for value in values]

    def schedule(step):
        passed = tf.cast(step, tf.int64) > tf.constant(boundaries, tf.int64)
        value = tf.gather(values, tf.math.count_nonzero(passed))
        step = tf.cast(step, tf.float32)
        return value * tf.minimum(step / warmup_steps, 1.0) if warmup_steps else value

    return schedule


def check_float(name: str, value: float, bounds: str) -> float:
    """Returns the float32 nearest to `value`.

    Args:
        name: of the argument, for the error.
        value: a float.
        bounds: what it must be in words: POSITIVE, NONNEGATIVE or FRACTION.

    Raises:
        ValueError: it isn't a finite float within the bounds.
    """
    if isinstance(value, float) and abs(value) < float(tf.float32.max):
        nearest = float(tf.float32.as_numpy_dtype(value))
        is_low = nearest < 0.0 or (nearest == 0.0 and ">=" not in bounds)
        if not is_low and (nearest < 1.0 or bounds != FRACTION):
            return nearest
    raise ValueError(
        f"{name} must be a finite float {bounds}, got {value!r}: write e.g. 0.1"
    )


def _check_int(name: str, value: int, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(
            f"{name} must be an int >= {least}, got {value!r}: count updates from 0"
        )
