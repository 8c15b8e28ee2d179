"""Embeddings: a row of a table for each integer.

    words = tfreg.layers.Embedding(10000, 64)
    vectors = words(tf.constant([[2, 7, 1]]))  # [batch, time, 64]

The trap: an integer out of range, for which XLA reads the last row and drops the
gradient.
"""

import numpy as np
import tensorflow as tf

from tfreg import _checks
from tfreg.collections import scopes
from tfreg.layers import base, initializers

Regularizer = base.Regularizer


class Embedding(base.Layer):
    """A row of a table for each integer.

    The table's gradient is IndexedSlices of the rows looked up, so that the time of an
    update doesn't depend on the size of the table. An `activity_regularizer` preserves
    this: it penalizes only the rows of the batch, each as often as it is looked up,
    divided by the batch size. A `kernel_regularizer` penalizes all rows at every step,
    and its gradient is as large as the table.

    Args:
        num_rows: number of different integers, 0 <= input < num_rows.
        dim: length of a row.
        kernel_regularizer: callable, table `[num_rows, dim]` -> scalar.
        activity_regularizer: callable, the rows looked up -> scalar; divided by the
            batch size.
        seed: determines the initial values, together with the names of the layer and
            the variable; None: different for each layer, see `tfreg.Store`.
        name: first part of the variable's name `<name>/embeddings`.

    Raises:
        ValueError: `num_rows` or `dim` isn't positive.
        TypeError: a regularizer isn't callable.

    Source: `keras.layers.Embedding`; the penalty of the rows looked up is that of
        matrix factorization, once for each rating (Koren, Bell and Volinsky 2009).
    """

    parameters = {"embeddings": "kernel"}

    def __init__(
        self,
        num_rows: int,
        dim: int,
        kernel_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        regularizers = {"kernel": kernel_regularizer, "activity": activity_regularizer}
        super().__init__(name, seed, regularizers)
        self.num_rows = _checks.check_int("num_rows", num_rows)
        self.dim = _checks.check_int("dim", dim)

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, ..., dim]` for integers `[batch, ...]`.

        In a trace, the row of an integer out of range is NaN.

        Args:
            inputs: integer tensor or RaggedTensor.
            training: has no effect.

        Raises:
            ValueError: in eager code, an integer is out of range.
            TypeError: the inputs aren't integers.
        """
        del training
        if isinstance(inputs, tf.RaggedTensor):
            rows = inputs.with_flat_values(self._look_up(inputs.flat_values))
        else:
            rows = self._look_up(inputs)
        return self.penalize_activity(rows)

    @scopes.do_not_convert
    def _look_up(self, inputs: tf.Tensor) -> tf.Tensor:
        ids = self.check_inputs(inputs, min_rank=0, kind="integer")
        if ids.dtype not in (tf.int32, tf.int64):
            ids = tf.cast(ids, tf.int32 if ids.dtype.size < 4 else tf.int64)
        shape = [self.num_rows, self.dim]
        table = self.get_variable("embeddings", shape, initializers.small_uniform)
        if tf.executing_eagerly():
            self._check_range(ids.numpy())
            return tf.gather(table, ids)
        # An accelerator or XLA would read another row, and not train it.
        # As unsigned integers, negative ones are large.
        unsigned = tf.uint32 if ids.dtype == tf.int32 else tf.uint64
        limit = tf.constant(self.num_rows, unsigned)
        is_known = tf.bitcast(ids, unsigned) < limit
        rows = tf.gather(table, tf.where(is_known, ids, tf.zeros([], ids.dtype)))
        # The addition of -0.0 changes neither the number nor the gradient.
        nothing, nan = (tf.constant(x, rows.dtype) for x in (-0.0, float("nan")))
        return rows + tf.where(is_known, nothing, nan)[..., tf.newaxis]

    def _check_range(self, ids: np.ndarray) -> None:
        wrong = ids[(ids < 0) | (ids >= self.num_rows)]
        if wrong.size:
            raise ValueError(
                f"inputs of {self.name} must be from 0 to {self.num_rows - 1}, got "
                f"{int(wrong.flat[0])}: give the Embedding more rows, or map what is "
                "unknown to a row of its own"
            )
