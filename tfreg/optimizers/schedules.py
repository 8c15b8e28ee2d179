"""Learning rates and scales as functions of the step, in graphs and in XLA.

    rate = schedules.cosine(1e-3, num_steps=9_000, warmup_steps=500)
    optimizer = optimizers.adam(rate)
    regularizer = tfreg.l2_regularizer(schedules.linear(0.0, 1e-4, 1_000))

The trap: a rate held as a Python number is frozen at tracing. A schedule takes the step
as a tensor, so that it follows the step without retracing. The step is the number of
updates applied: 0 in the first one.

A schedule of Keras, or any function of the step, does as well.
"""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tfreg import _checks

Schedule: TypeAlias = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class _Named:
    """A schedule that prints as it was written, and knows its largest value."""

    text: str
    peak: float | None
    function: Schedule = dataclasses.field(repr=False)

    def __call__(self, step: Any) -> tf.Tensor:
        return self.function(tf.convert_to_tensor(step))

    def __repr__(self) -> str:
        return self.text


def get_peak(rate: Any) -> float | None:
    """Returns the largest value of a rate, None where it isn't known.

    Args:
        rate: a number, a schedule, or a schedule of Keras.
    """
    if isinstance(rate, numbers.Real):
        return float(rate)
    if isinstance(rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        names = ("initial_learning_rate", "warmup_target")
        values = [getattr(rate, name, None) for name in names]
        values += getattr(rate, "values", [])
        return max((float(v) for v in values if v is not None), default=None)
    return getattr(rate, "peak", None)


def _write(name: str, *args: Any) -> str:
    """Returns a call as it is written in rules, with the numbers before rounding."""
    plain = (
        float(a) if isinstance(a, numbers.Real) and not isinstance(a, int) else a
        for a in args
    )
    return f"{name}({', '.join(map(repr, plain))})"


def _check(name: str, value: Any) -> float:
    return _checks.check_float(name, value, _checks.NONNEGATIVE, True)


def constant(value: float) -> Schedule:
    """Returns a schedule that is constant.

    Args:
        value: finite float >= 0.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: `value` is out of range.
    """
    text, value = _write("constant", value), _check("value", value)
    return _Named(text, value, lambda step: tf.constant(value))


def cosine(
    peak: float, num_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> Schedule:
    """Returns half a cosine from `peak` to `final`, after a linear warm-up from 0.

    Args:
        peak: finite float > 0, peak value, reached at step `warmup_steps`.
        num_steps: int > `warmup_steps`, the first step with the value `final`.
        warmup_steps: int >= 0, number of steps of linear warm-up from 0.
        final: finite float >= 0, the final value.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras `CosineDecay`, whose decay_steps is `num_steps - warmup_steps`.
    """
    text = _write("cosine", peak, num_steps, warmup_steps, final)
    peak = _checks.check_float("peak", peak, as_float32=True)
    final = _check("final", final)
    warmup_steps = _checks.check_int("warmup_steps", warmup_steps, 0)
    num_steps = _checks.check_int("num_steps", num_steps, warmup_steps + 1)

    def schedule(step):
        step = tf.cast(step, tf.float32)
        progress = (step - warmup_steps) / (num_steps - warmup_steps)
        wave = (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0))) / 2.0
        ramp = tf.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
        return ramp * (final + (peak - final) * wave)

    return _Named(text, max(peak, final), schedule)


def linear(initial: float, final: float, num_steps: int) -> Schedule:
    """Returns a line from `initial` to `final`, which stays there.

    Args:
        initial: finite float >= 0, the value at step 0.
        final: finite float >= 0, the value from step `num_steps` on.
        num_steps: int >= 1.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Source: `torch.optim.lr_scheduler.LinearLR`; `polynomial` with the power 1.
    """
    line = polynomial(initial, final, num_steps, 1.0)
    return _Named(_write("linear", initial, final, num_steps), get_peak(line), line)


def polynomial(
    initial: float, final: float, num_steps: int, power: float = 1.0
) -> Schedule:
    """Returns `(initial - final) * (1 - step / num_steps) ** power + final`.

    Args:
        initial: finite float >= 0, the value at step 0.
        final: finite float >= 0, the value from step `num_steps` on.
        num_steps: int >= 1.
        power: finite float > 0; 1.0 is a line.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras `PolynomialDecay`; `tf.compat.v1.train.polynomial_decay`.
    """
    text = _write("polynomial", initial, final, num_steps, power)
    initial, final = _check("initial", initial), _check("final", final)
    num_steps = _checks.check_int("num_steps", num_steps, 1)
    power = _checks.check_float("power", power, as_float32=True)

    def schedule(step):
        progress = tf.minimum(tf.cast(step, tf.float32), num_steps) / num_steps
        return (initial - final) * (1.0 - progress) ** power + final

    return _Named(text, max(initial, final), schedule)


def exponential(
    initial: float, decay_rate: float, decay_steps: int, staircase: bool = False
) -> Schedule:
    """Returns `initial * decay_rate ** (step / decay_steps)`.

    Args:
        initial: finite float >= 0, the value at step 0.
        decay_rate: float in (0, 1], the factor of `decay_steps` steps.
        decay_steps: int >= 1.
        staircase: whether `step / decay_steps` is rounded down.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras `ExponentialDecay`; `tf.compat.v1.train.exponential_decay`.
    """
    text = _write("exponential", initial, decay_rate, decay_steps, staircase)
    initial = _check("initial", initial)
    decay_rate = _checks.check_float("decay_rate", decay_rate, as_float32=True)
    if decay_rate > 1.0:
        raise ValueError(
            f"decay_rate must be a float in (0, 1], got {decay_rate!r}: write for "
            "example 0.96"
        )
    decay_steps = _checks.check_int("decay_steps", decay_steps, 1)

    def schedule(step):
        periods = tf.cast(step, tf.float32) / decay_steps
        periods = tf.floor(periods) if staircase else periods
        return initial * tf.pow(decay_rate, periods)

    return _Named(text, initial, schedule)


def piecewise(
    boundaries: Sequence[int], values: Sequence[float], warmup_steps: int = 0
) -> Schedule:
    """Returns `values[i]` up to and including step `boundaries[i]`, then the next.

    Args:
        boundaries: increasing ints >= 0, in steps.
        values: finite floats >= 0, one more than `boundaries`.
        warmup_steps: int >= 0; before this step, the value is multiplied by
            `step / warmup_steps`.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range, or the lengths don't match.

    Source: Keras `PiecewiseConstantDecay`.
    """
    warmup_steps = _checks.check_int("warmup_steps", warmup_steps, 0)
    boundaries = _check_boundaries(boundaries)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values must be {len(boundaries) + 1} floats, got {values}: one per piece"
        )
    text = _write("piecewise", boundaries, [float(value) for value in values])
    values = [_check("values", value) for value in values]

    def schedule(step):
        passed = tf.cast(step, tf.int64) > tf.constant(boundaries, tf.int64)
        return tf.gather(values, tf.math.count_nonzero(passed))

    pieces = _Named(text, max(values), schedule)
    return warmup(pieces, warmup_steps) if warmup_steps else pieces


def _check_boundaries(boundaries: Sequence[int], least: int = 0) -> list[int]:
    checked = [_checks.check_int("boundaries", b, least) for b in boundaries]
    for before, boundary in itertools.pairwise(checked):
        _checks.check_int("boundaries", boundary, before + 1)
    return checked


def _check_schedule(schedule: Any) -> Schedule:
    """Returns a schedule; a number becomes a constant one.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(schedule, numbers.Real):
        return constant(float(schedule))
    if not callable(schedule):
        raise TypeError(
            f"a schedule must be a function of the step or a float, got {schedule!r}: "
            "write for example schedules.linear(0.0, 1e-3, 100)"
        )
    return schedule


def warmup(schedule: Schedule | float, num_steps: int) -> Schedule:
    """Returns a schedule times `step / num_steps`, up to step `num_steps`.

    Args:
        schedule: any schedule, which doesn't wait for the warm-up, or a float.
        num_steps: int >= 1.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: an argument is out of range.
        TypeError: `schedule` isn't one.

    Source: Goyal et al. 2017.
    """
    num_steps = _checks.check_int("num_steps", num_steps, 1)
    known = _check_schedule(schedule)

    def ramped(step):
        ramp = tf.minimum(tf.cast(step, tf.float32) / num_steps, 1.0)
        return tf.cast(known(step), tf.float32) * ramp

    return _Named(_write("warmup", known, num_steps), get_peak(known), ramped)


def join(schedules: Sequence[Schedule | float], boundaries: Sequence[int]) -> Schedule:
    """Returns schedules one after another, each of which counts from its own start.

    Args:
        schedules: two or more; a float is a constant one.
        boundaries: increasing ints >= 1, the first step of each schedule but the first.

    Returns:
        A function: integer step -> float32 scalar.

    Raises:
        ValueError: the lengths don't match, or a boundary is out of range.
        TypeError: a schedule isn't one.

    Source: `optax.join_schedules`.
    """
    parts = [_check_schedule(schedule) for schedule in schedules]
    boundaries = _check_boundaries(boundaries, 1)
    if len(parts) < 2 or len(boundaries) != len(parts) - 1:
        raise ValueError(
            f"boundaries must be one fewer than the {len(parts)} schedules, which are "
            f"two or more, got {boundaries}: write the first step of each but the first"
        )

    def joined(step):
        step = tf.cast(step, tf.int64)
        value = tf.cast(parts[0](step), tf.float32)
        for boundary, part in zip(boundaries, parts[1:], strict=True):
            later = tf.cast(part(tf.maximum(step - boundary, 0)), tf.float32)
            value = tf.where(step < boundary, value, later)
        return value

    peaks = [get_peak(part) for part in parts]
    known = [peak for peak in peaks if peak is not None]
    text = _write("join", parts, boundaries)
    return _Named(text, max(known) if len(known) == len(peaks) else None, joined)
