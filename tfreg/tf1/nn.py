"""The functions of tf.nn that TF1 code calls and TensorFlow 2 has changed or lost.

    x = tf1.nn.dropout(images[..., 0], keep_prob=0.8)  # [batch, time, channels]
    outputs, state = tf1.nn.dynamic_rnn(tf1.rnn_cell.GRUCell(8), x, dtype=tf.float32)

The traps: the second argument of TensorFlow 2's dropout is the fraction to drop; and
`tf.compat.v1.nn.dynamic_rnn` looks for variables where `tf1.get_variable` has none.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.layers import dropout as masks
from tfreg.tf1 import variable_scopes

v1 = tf.compat.v1.nn


def dropout(
    x: tf.Tensor,
    keep_prob: Any = None,
    noise_shape: Sequence[int] | tf.Tensor | None = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> tf.Tensor:
    """Applies dropout.

    The mask is a function of what that of `tf1.layers.dropout` is, with `name` for the
    name of its scope.

    Args:
        x: floating.
        keep_prob: fraction to keep, above 0 and at most 1; 1 returns `x`. A float, or a
            tensor with a static value.
        noise_shape: shape of the mask, 1 for a dimension that is dropped as a unit;
            None: the shape of `x`.
        seed: int; None: the step's seed alone.
        name: of the mask; None: dropout.
        rate: `1 - keep_prob`, instead of it.

    Raises:
        ValueError: not one of `keep_prob` and `rate`; it is out of range, or isn't
            known when the function is traced; the training step has no number; outside
            a forward pass.

    Source: `tf.compat.v1.nn.dropout`.
    """
    given = keep_prob if rate is None else rate
    static = tf.get_static_value(given) if tf.is_tensor(given) else given
    if static is None or (keep_prob is not None and rate is not None):
        raise ValueError(
            "keep_prob must be known when the function is traced, and be given or else "
            f"rate, got keep_prob={keep_prob!r}, rate={rate!r}: pass a float as a "
            "Python argument of the tf.function"
        )
    dropped = float(static) if rate is not None else 1 - float(static)
    if not 0 <= dropped < 1:
        raise ValueError(
            "keep_prob must be above 0 and at most 1, and rate 1 - keep_prob, got "
            f"keep_prob={keep_prob!r}, rate={rate!r}: write 0.5 for a half"
        )
    x = tf.convert_to_tensor(x)
    if dropped == 0:
        return x
    path = variable_scopes.join(name or "dropout")
    owner = variable_scopes.get_pass(path).owner
    path = path if seed is None else f"{path}/{seed}"
    return masks.drop_out(x, dropped, path, owner, noise_shape)


def lrn(
    input: tf.Tensor,
    depth_radius: int = 5,
    bias: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.5,
    name: str | None = None,
) -> tf.Tensor:
    """Returns Krizhevsky's local response normalization.

    Each value is divided by `(bias + alpha * s) ** beta`, with s the sum of squares of
    the channels at most `depth_radius` away.

    Args:
        input: floating `[batch, height, width, channels]`, with static channels.
        depth_radius: number of channels on each side.
        bias: added to the sum, above 0.
        alpha: multiplier of the sum.
        beta: the exponent.
        name: of the operation.

    Source: `tf.compat.v1.nn.lrn`, whose gradient takes seven times as long on a CPU.
    """
    with tf.name_scope(name or "lrn"):
        x = tf.convert_to_tensor(input)
        size = x.shape[-1]
        near = tf.ones([size, size], x.dtype)
        if depth_radius < size:
            near = tf.linalg.band_part(near, depth_radius, depth_radius)
        squares = tf.matmul(tf.reshape(tf.square(x), [-1, size]), near)
        norm = bias + alpha * tf.reshape(squares, tf.shape(x))
        if beta not in (0.5, 0.75):
            return x * tf.pow(norm, -beta)
        root = tf.math.rsqrt(norm)  # Roots are faster than a power.
        return x * root if beta == 0.5 else x * root * tf.sqrt(root)


class _Reusing:
    """A cell that creates variables at its first call, and reuses them at the others.

    A loop over time calls a cell once for each trace, but in eager code at each step.
    """

    def __init__(self, cell: Any) -> None:
        self._cell = cell
        self._reuse: bool | None = None
        self.state_size, self.output_size = cell.state_size, cell.output_size
        self.zero_state = cell.zero_state

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        current = variable_scopes.get_variable_scope()
        with variable_scopes.variable_scope(current, reuse=self._reuse):
            self._reuse = True
            return self._cell(inputs, state)


def dynamic_rnn(
    cell: Any,
    inputs: Any,
    sequence_length: tf.Tensor | None = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """Returns a cell's outputs over time, and its last state.

    Args:
        cell: of `tf1.rnn_cell`, or any like them.
        inputs: `[batch, time, ...]`, or a tuple of such.
        sequence_length: number of time steps of each example, `[batch]`; after them the
            outputs are zero and the state stays. None: all.
        initial_state: state before the first step; None: zeros.
        dtype: of the zeros; required without `initial_state`.
        parallel_iterations: of the loop.
        swap_memory: ignored by TensorFlow 2.
        time_major: whether inputs and outputs are `[time, batch, ...]`.
        scope: variable scope; None: rnn.

    Raises:
        ValueError: neither `dtype` nor `initial_state`; outside a forward pass.

    Source: `tf.compat.v1.nn.dynamic_rnn`.
    """
    with variable_scopes.variable_scope(scope or "rnn"):
        return v1.dynamic_rnn(
            _Reusing(cell),
            inputs,
            sequence_length,
            initial_state,
            dtype,
            parallel_iterations,
            swap_memory,
            time_major,
        )


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: tf.Tensor,
    sequence_length: tf.Tensor | None = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Returns the outputs of two cells, one backwards in time, and their last states.

    Args:
        cell_fw: the cell of the forward direction.
        cell_bw: the cell of the backward direction.
        inputs: a tensor `[batch, time, size]`.
        initial_state_fw: as `initial_state` of `dynamic_rnn`.
        initial_state_bw: as `initial_state` of `dynamic_rnn`.
        scope: variable scope; None: bidirectional_rnn. The cells are in fw and bw.

    The remaining arguments and the errors are those of `dynamic_rnn`.

    Source: `tf.compat.v1.nn.bidirectional_dynamic_rnn`.
    """
    time, batch = (0, 1) if time_major else (1, 0)
    options = dtype, parallel_iterations, swap_memory, time_major

    def reverse(x: tf.Tensor) -> tf.Tensor:
        if sequence_length is None:
            return tf.reverse(x, [time])
        return tf.reverse_sequence(x, sequence_length, time, batch)

    with variable_scopes.variable_scope(scope or "bidirectional_rnn"):
        outputs, state = dynamic_rnn(
            cell_fw, inputs, sequence_length, initial_state_fw, *options, scope="fw"
        )
        reversed_outputs, last = dynamic_rnn(
            cell_bw,
            reverse(inputs),
            sequence_length,
            initial_state_bw,
            *options,
            scope="bw",
        )
    backward = tf.nest.map_structure(reverse, reversed_outputs)
    return (outputs, backward), (state, last)


def static_rnn(
    cell: Any,
    inputs: Sequence[tf.Tensor],
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: tf.Tensor | None = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """Returns a cell's outputs over time as a list, and its last state.

    Args:
        inputs: a list of the time steps' inputs, each `[batch, size]`.

    The remaining arguments and the errors are those of `dynamic_rnn`.

    Source: `tf.compat.v1.nn.static_rnn`.
    """
    with variable_scopes.variable_scope(scope or "rnn"):
        return v1.static_rnn(
            _Reusing(cell), inputs, initial_state, dtype, sequence_length
        )
