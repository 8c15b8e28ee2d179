"""contrib's initializers, seeded by the variable's name where no seed is given.

    tf1.get_variable("w", [784, 10], initializer=tf1.xavier_initializer())

The trap: TF1 derives an op's seed from the number of ops before it. With these
initializers a variable's initial value doesn't depend on other variables.
"""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

Seed = tuple[int, int]

_MODES = ("FAN_IN", "FAN_OUT", "FAN_AVG")


def _compute_fans(shape: Sequence[int]) -> tuple[float, float]:
    if not shape:
        return 1.0, 1.0
    field = float(math.prod(shape[:-2]))
    return field * (shape[-2] if len(shape) > 1 else shape[-1]), field * shape[-1]


@dataclasses.dataclass(frozen=True)
class VarianceScaling:
    """An initializer with variance about `factor / n`, n from the kernel's shape."""

    factor: float
    mode: str
    uniform: bool
    seed: int | None
    dtype: tf.DType

    def __call__(
        self, shape: Sequence[int], dtype: tf.DType | None = None, place: Seed = (0, 0)
    ) -> tf.Tensor:
        """Returns the values; `place` is the seed if the initializer has none."""
        dtype = dtype or self.dtype
        fan_in, fan_out = _compute_fans(list(shape))
        averages = {"FAN_IN": fan_in, "FAN_OUT": fan_out}
        n = averages.get(self.mode, (fan_in + fan_out) / 2)
        pair = place if self.seed is None else (self.seed, 0)
        if self.uniform:
            limit = math.sqrt(3 * self.factor / n)
            return tf.random.stateless_uniform(shape, pair, -limit, limit, dtype)
        # Truncation reduces the variance: contrib's 1.3 corrects for it (exactly 1.29).
        deviation = math.sqrt(1.3 * self.factor / n)
        return tf.random.stateless_truncated_normal(
            shape, pair, stddev=deviation, dtype=dtype
        )


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: int | None = None,
    dtype: tf.DType = tf.float32,
) -> VarianceScaling:
    """Returns an initializer of values with variance about `factor / n`.

    Args:
        factor: numerator of the variance.
        mode: n is the number of inputs (FAN_IN), of outputs (FAN_OUT) or their mean
            (FAN_AVG).
        uniform: whether the distribution is uniform instead of truncated normal.
        seed: int; None: derived from the variable's name and the store's seed.
        dtype: floating.

    Raises:
        TypeError: an unknown mode, or a dtype that isn't floating.

    Source: `tf.contrib.layers.variance_scaling_initializer`, with other random numbers.
    """
    if mode not in _MODES:
        raise TypeError(
            f"mode must be one of {', '.join(_MODES)}, got {mode!r}: choose one of them"
        )
    if not dtype.is_floating:
        raise TypeError(f"dtype must be floating, got {dtype.name}: use a constant")
    return VarianceScaling(factor, mode, uniform, seed, dtype)


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: tf.DType = tf.float32
) -> VarianceScaling:
    """Returns Glorot and Bengio's initializer, of variance `2 / (inputs + outputs)`.

    The arguments and the errors are those of `variance_scaling_initializer`.

    Source: `tf.contrib.layers.xavier_initializer`, with other random numbers.
    """
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)
