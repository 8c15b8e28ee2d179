"""Half precision: the dtypes a model computes in, and the loss scale of float16.

    scale = precision.LossScale()
    scaled = scale.multiply(loss)  # the penalties are in it
    gradients = tape.gradient(scaled, model.trainable_variables)
    gradients, finite = scale.divide(gradients)
    scale.update(finite)

The trap: a penalty added after the loss is scaled is divided by the scale, 32,768.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.optimizers import gradients as sums

DTYPES = {
    "float32": tf.float32,
    "tf32": tf.float32,  # `exactness.use` tells it from the former.
    "float64": tf.float64,
    "bfloat16": tf.bfloat16,
    "float16": tf.float16,
}


def check(precision: str, policy: str | None) -> tf.DType:
    """Returns the dtype of a precision.

    Args:
        precision: one of `DTYPES`.
        policy: the compute dtype of a Keras model; None for other models.

    Raises:
        ValueError: an unknown precision, or a Keras model computes in another dtype.
    """
    if precision not in DTYPES:
        raise ValueError(
            f"precision must be one of {', '.join(DTYPES)}, got {precision!r}: choose "
            "one of them"
        )
    if (precision, policy) == ("float32", "float64"):
        return tf.float64
    if policy not in (None, DTYPES[precision].name):
        raise ValueError(
            f"precision must be that of the Keras model, {policy}, got {precision!r}: "
            f"write precision={policy!r}, or make the model under "
            "keras.mixed_precision.set_dtype_policy"
        )
    return DTYPES[precision]


class LossScale(tf.Module):
    """A power of two that keeps float16 gradients from underflowing.

    It doubles after `growth_steps` updates without overflow, and halves at each
    overflow.

    Args:
        initial_scale: the first scale.
        growth_steps: number of updates before the scale doubles.

    Attributes:
        scale: float32 scalar variable.
        num_good: int64 scalar variable, the updates since the last change.
        num_skipped: int64 scalar variable, the updates that overflowed.

    Source: Micikevicius et al. 2018; `keras.mixed_precision.LossScaleOptimizer`.
    """

    def __init__(
        self, initial_scale: float = 2.0**15, growth_steps: int = 2000
    ) -> None:
        super().__init__()
        self.growth_steps = growth_steps
        self.scale = _make_variable(initial_scale, tf.float32, "scale")
        self.num_good = _make_variable(0, tf.int64, "num_good")
        self.num_skipped = _make_variable(0, tf.int64, "num_skipped")

    def multiply(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss, penalties included, times the scale."""
        return loss * tf.cast(self.scale.read_value(), loss.dtype)

    def divide(
        self, gradients: Sequence[sums.Gradient]
    ) -> tuple[list[sums.Gradient], tf.Tensor]:
        """Returns the gradients without the scale, and whether all are finite."""
        inverse = 1.0 / self.scale.read_value()
        divided = [sums.multiply(g, inverse) for g in gradients]
        finite = [
            tf.reduce_all(tf.math.is_finite(getattr(g, "values", g)))
            for g in divided
            if g is not None
        ]
        return divided, tf.reduce_all(finite)

    def update(self, finite: tf.Tensor) -> None:
        """Adapts the scale, given whether the update's gradients were finite."""
        good = tf.where(finite, self.num_good.read_value() + 1, 0)
        grow = good >= self.growth_steps
        scale = self.scale.read_value()
        scale = tf.where(finite, tf.where(grow, scale * 2.0, scale), scale / 2.0)
        skipped = self.num_skipped.read_value() + tf.cast(~finite, tf.int64)
        good = tf.where(grow, tf.zeros_like(good), good)
        # By the handle: each replica updates its own copy, by the same gradients.
        for variable, value in (
            (self.scale, tf.clip_by_value(scale, 1.0, 2.0**40)),
            (self.num_good, good),
            (self.num_skipped, skipped),
        ):
            handle = _tensorflow.get_handle(variable)
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)


def _make_variable(value: float, dtype: tf.DType, name: str) -> tf.Variable:
    return tf.Variable(
        tf.constant(value, dtype),
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
