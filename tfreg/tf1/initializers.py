"""contrib's initializers, seeded by the variable's name where no seed is given.

    tf1.get_variable("w", [784, 10], initializer=tf1.xavier_initializer())

The trap: TF1 derives an op's seed from the number of ops before it. With these
initializers a variable's initial value doesn't depend on other variables.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow

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


def compute_initial(
    name: str,
    shape: Sequence[int] | None,
    dtype: tf.DType,
    initializer: Any,
    place: Seed,
) -> tf.Tensor:
    """Returns the initial value of a new variable.

    Args:
        name: of the variable.
        shape: as for `get_variable`.
        dtype: of the variable.
        initializer: as for `get_variable`.
        place: seed of the initializers that have none.

    Raises:
        ValueError: the shape isn't known, is missing, or is given along with a value.
    """
    if isinstance(initializer, type):
        initializer = initializer()
    if initializer is None:
        default = xavier_initializer()
        initializer = default if dtype.is_floating else tf.zeros_initializer()
    if not callable(initializer):
        if shape is not None:
            raise ValueError(
                f"shape of {name} must be left out if its initializer is a value, "
                f"got {shape!r}: leave it out, or use tf.constant_initializer"
            )
        return tf.convert_to_tensor(_evaluate(name, initializer))
    if shape is None:
        return tf.convert_to_tensor(_call_without_shape(name, initializer))
    sizes = tf.TensorShape(shape)
    if not sizes.is_fully_defined():
        raise ValueError(
            f"shape of {name} must be known, got {sizes}: give all dimensions"
        )
    if isinstance(initializer, VarianceScaling):
        value = initializer(sizes.as_list(), dtype, place)
    else:
        value = initializer(sizes.as_list(), dtype=dtype)
    return tf.ensure_shape(tf.cast(value, dtype), sizes)


def _evaluate(name: str, value: Any) -> Any:
    """Returns a value that is valid outside the trace it was computed in."""
    if not tf.is_tensor(value) or hasattr(value, "numpy"):
        return value
    known = tf.get_static_value(value)
    known = _tensorflow.evaluate(value) if known is None else known
    if known is None:
        raise ValueError(
            f"initializer of {name} must be known when the variable is created, got "
            f"{value!r} of a trace: pass a function, or call the model eagerly once"
        )
    return known


def _call_without_shape(name: str, initializer: Callable[..., Any]) -> Any:
    try:
        return initializer()
    except TypeError as error:
        raise ValueError(
            f"shape of {name} must be given, got None with {initializer!r}, which "
            "takes a shape: pass the shape"
        ) from error
