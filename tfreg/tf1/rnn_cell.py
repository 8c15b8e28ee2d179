"""The cells of tf.nn.rnn_cell, which TensorFlow lost with Keras 3.

    cells = [tf1.rnn_cell.BasicLSTMCell(8) for _ in range(2)]
    cell = tf1.rnn_cell.MultiRNNCell(cells)
    rows = images[..., 0]  # [batch, time, channels]
    outputs, state = tf1.nn.dynamic_rnn(cell, rows, dtype=tf.float32)

A cell creates its variables at its first call in a forward pass, in the scope of that
call, and uses them at the later ones. The trap: the two cells of a list `[cell] * 2`
are one, with the same variables.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfreg.tf1 import weights
from tfreg.tf1.rnn_base import LSTMStateTuple, RNNCell
from tfreg.tf1.rnn_wrappers import DropoutWrapper, MultiRNNCell, ResidualWrapper
from tfreg.tf1.weights import ONES, ZEROS, Initializer

__all__ = [
    "BasicLSTMCell",
    "BasicRNNCell",
    "DropoutWrapper",
    "GRUCell",
    "LSTMCell",
    "LSTMStateTuple",
    "MultiRNNCell",
    "RNNCell",
    "ResidualWrapper",
]

Activation = Callable[[tf.Tensor], tf.Tensor] | str | None


def _find_activation(activation: Activation) -> Callable[[tf.Tensor], tf.Tensor]:
    if isinstance(activation, str):
        return tf.keras.activations.get(activation)
    return activation or tf.tanh


class BasicRNNCell(RNNCell):
    """`activation([inputs, state] @ kernel + bias)`.

    Args:
        num_units: size of the state and of the outputs.
        activation: None: tanh.
        reuse: ignored: the scope's counts.
        name: as for `RNNCell`.
        dtype: as for `RNNCell`.

    Source: `tf.compat.v1.nn.rnn_cell.BasicRNNCell`.
    """

    def __init__(
        self,
        num_units: int,
        activation: Activation = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        del reuse
        super().__init__(name=name, dtype=dtype)
        self.state_size = self.output_size = int(num_units)
        self._activation = _find_activation(activation)

    def build(self, inputs_shape: Any) -> None:
        """Creates kernel and bias."""
        size = self.output_size
        self._kernel = self.add_variable("kernel", [inputs_shape[-1] + size, size])
        self._bias = self.add_variable("bias", [size], ZEROS)

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """Returns the outputs, twice."""
        x = tf.concat([inputs, state], 1)
        outputs = self._activation(weights.multiply(x, self._kernel, self._bias))
        return outputs, outputs


class GRUCell(RNNCell):
    """Cho et al.'s gated recurrent unit.

    Args:
        num_units: size of the state and of the outputs.
        activation: None: tanh.
        reuse: ignored: the scope's counts.
        kernel_initializer: as for `get_variable`.
        bias_initializer: as for `get_variable`; None: ones for the gates, else zeros.
        name: as for `RNNCell`.
        dtype: as for `RNNCell`.

    Source: `tf.compat.v1.nn.rnn_cell.GRUCell`.
    """

    def __init__(
        self,
        num_units: int,
        activation: Activation = None,
        reuse: Any = None,
        kernel_initializer: Initializer = None,
        bias_initializer: Initializer = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        del reuse
        super().__init__(name=name, dtype=dtype)
        self.state_size = self.output_size = int(num_units)
        self._activation = _find_activation(activation)
        self._initializers = kernel_initializer, bias_initializer

    def build(self, inputs_shape: Any) -> None:
        """Creates the kernels and biases of the gates and of the candidate."""
        size, (start, bias_start) = self.output_size, self._initializers
        rows = inputs_shape[-1] + size
        self._gates = (
            self.add_variable("gates/kernel", [rows, 2 * size], start),
            self.add_variable("gates/bias", [2 * size], bias_start or ONES),
        )
        self._candidate = (
            self.add_variable("candidate/kernel", [rows, size], start),
            self.add_variable("candidate/bias", [size], bias_start or ZEROS),
        )

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """Returns the next state, twice."""
        gates = weights.multiply(tf.concat([inputs, state], 1), *self._gates)
        reset, update = tf.split(tf.sigmoid(gates), 2, 1)
        x = tf.concat([inputs, reset * state], 1)
        candidate = self._activation(weights.multiply(x, *self._candidate))
        state = update * state + (1 - update) * candidate
        return state, state


class LSTMCell(RNNCell):
    """Hochreiter and Schmidhuber's long short-term memory.

    Args:
        num_units: size of the memory.
        use_peepholes: whether the gates see the memory.
        cell_clip: largest absolute value of the memory; None: any.
        initializer: of the kernels, as for `get_variable`.
        num_proj: size of the projected outputs; None: no projection.
        proj_clip: largest absolute value of the projected outputs; None: any.
        num_unit_shards: ignored.
        num_proj_shards: ignored.
        forget_bias: added to the forget gate's inputs.
        state_is_tuple: whether the state is an `LSTMStateTuple`, instead of its parts
            concatenated.
        activation: None: tanh.
        reuse: ignored: the scope's counts.
        name: as for `RNNCell`.
        dtype: as for `RNNCell`.

    Source: `tf.compat.v1.nn.rnn_cell.LSTMCell`.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Initializer = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: int | None = None,
        num_proj_shards: int | None = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        del reuse, num_unit_shards, num_proj_shards
        super().__init__(name=name, dtype=dtype)
        self._num_units, self._num_proj = int(num_units), num_proj
        self._use_peepholes = use_peepholes
        self._cell_clip, self._proj_clip = cell_clip, proj_clip
        self._initializer = initializer
        self._forget_bias = forget_bias
        self._activation = _find_activation(activation)
        self.output_size = self._num_units if num_proj is None else int(num_proj)
        sizes = LSTMStateTuple(self._num_units, self.output_size)
        self.state_size = sizes if state_is_tuple else sum(sizes)

    def build(self, inputs_shape: Any) -> None:
        """Creates kernel, bias, the peepholes and the projection."""
        units, start = self._num_units, self._initializer
        rows = inputs_shape[-1] + self.output_size
        self._kernel = self.add_variable("kernel", [rows, 4 * units], start)
        self._bias = self.add_variable("bias", [4 * units], ZEROS)
        names = "fio" if self._use_peepholes else ""
        self._peepholes = {
            name: self.add_variable(f"w_{name}_diag", [units], start) for name in names
        }
        if self._num_proj is not None:
            shape = [units, self.output_size]
            self._projection = self.add_variable("projection/kernel", shape, start)

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """Returns the outputs and the next state."""
        is_tuple = isinstance(self.state_size, tuple)
        sizes = [self._num_units, self.output_size]
        c, h = state if is_tuple else tf.split(state, sizes, 1)
        x = tf.concat([inputs, h], 1)
        gates = weights.multiply(x, self._kernel, self._bias)
        i, j, f, o = tf.split(gates, 4, 1)
        f += self._forget_bias
        f, i = (
            gate + self._peepholes[name] * c if self._peepholes else gate
            for name, gate in (("f", f), ("i", i))
        )
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * self._activation(j)
        c = _clip(c, self._cell_clip)
        if self._peepholes:
            o += self._peepholes["o"] * c
        h = tf.sigmoid(o) * self._activation(c)
        if self._num_proj is not None:
            h = _clip(tf.matmul(h, self._projection), self._proj_clip)
        return h, LSTMStateTuple(c, h) if is_tuple else tf.concat([c, h], 1)


def _clip(x: tf.Tensor, limit: float | None) -> tf.Tensor:
    return x if limit is None else tf.clip_by_value(x, -limit, limit)


class BasicLSTMCell(LSTMCell):
    """An `LSTMCell` without its options.

    Source: `tf.compat.v1.nn.rnn_cell.BasicLSTMCell`.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_units,
            forget_bias=forget_bias,
            state_is_tuple=state_is_tuple,
            activation=activation,
            reuse=reuse,
            name=name,
            dtype=dtype,
        )
