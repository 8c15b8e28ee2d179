"""What all cells of tf.nn.rnn_cell are, and what one's own cell inherits from.

    class Counter(tf1.rnn_cell.RNNCell):
        state_size = output_size = 1

        def call(self, inputs, state):
            return state, state + tf1.get_variable("step", [1])

The trap: a cell is called at each time step, and its variables are created once. A cell
reopens the scope of its first call in the pass, and reuses what is there.
"""

import collections
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.core_kernels import GLOBAL
from tfreg.tf1.weights import Initializer

LSTMStateTuple = collections.namedtuple("LSTMStateTuple", ("c", "h"))


def _split_words(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class RNNCell:
    """A cell: called with inputs and a state, it returns outputs and the next state.

    A subclass has the properties `state_size` and `output_size`, and a method
    `call(inputs, state)`. It creates variables in `call` by `tf1.get_variable`, or in
    `build(inputs_shape)`.

    Args:
        trainable: whether the variables of `add_variable` are trained.
        name: of the scope, numbered if taken; None: the class's name in lower case.
        dtype: of the variables of `add_variable`; None: that of the first inputs.

    Source: `tf.compat.v1.nn.rnn_cell.RNNCell`.
    """

    state_size: Any
    output_size: Any

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None
    ) -> None:
        self.trainable = trainable
        self.dtype = dtype
        self._name = name or _split_words(type(self).__name__)
        self._pass: variable_scopes.Pass | None = None
        self._scope: variable_scopes.VariableScope | None = None

    def build(self, inputs_shape: Any) -> None:
        """Creates variables, before the first `call` of a pass."""

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """Returns the outputs and the next state."""
        raise NotImplementedError("write the method call(inputs, state)")

    def add_variable(
        self, name: str, shape: Sequence[int], initializer: Initializer = None
    ) -> tf.Variable:
        """Returns a variable in the cell's scope."""
        make = weights.Maker(tf.as_dtype(self.dtype), None, self.trainable, GLOBAL)
        return make(name, name, shape, initializer)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """Returns the outputs and the next state.

        Args:
            inputs: `[batch, size]`.
            state: `[batch, size]`, or a tuple of such.
            scope: of the first call in a pass; None: the cell's name.

        Raises:
            ValueError: outside a forward pass.
        """
        current = variable_scopes.get_pass(f"{type(self).__name__}()")
        if self._pass is current:
            with variable_scopes.variable_scope(self._scope, reuse=True):
                return self.call(inputs, state)
        with variable_scopes.variable_scope(scope, self._name) as self._scope:
            self._pass = current
            if self.dtype is None:
                self.dtype = tf.nest.flatten(inputs)[0].dtype
            self.build(tf.nest.map_structure(lambda x: x.shape, inputs))
            return self.call(inputs, state)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """Returns a state of zeros."""
        return tf.nest.map_structure(
            lambda size: tf.zeros([batch_size, size], dtype), self.state_size
        )
