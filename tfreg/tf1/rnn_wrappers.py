"""Cells of tf.nn.rnn_cell that are built of other cells.

    first, second = tf1.rnn_cell.LSTMCell(8), tf1.rnn_cell.LSTMCell(8)
    cell = MultiRNNCell([first, DropoutWrapper(second, 0.5)])

They are functions of `tf1.rnn_cell`. The trap: the two cells of a list `[cell] * 2` are
one, with the same variables.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg.tf1 import nn, variable_scopes
from tfreg.tf1.rnn_base import LSTMStateTuple, RNNCell


class MultiRNNCell(RNNCell):
    """Cells in a row, each with the outputs of the one before as its inputs.

    Args:
        cells: the cells.
        state_is_tuple: only True.

    Raises:
        ValueError: no cells, or `state_is_tuple` isn't True.

    Source: `tf.compat.v1.nn.rnn_cell.MultiRNNCell`.
    """

    def __init__(self, cells: Sequence[Any], state_is_tuple: bool = True) -> None:
        super().__init__()
        if not cells or not state_is_tuple:
            raise ValueError(
                "cells must hold a cell, with state_is_tuple=True, got "
                f"{cells!r}, {state_is_tuple!r}: leave state_is_tuple out"
            )
        self._cells = list(cells)
        self.state_size = tuple(cell.state_size for cell in cells)
        self.output_size = cells[-1].output_size

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """Returns the last cell's outputs and the next states."""
        states = []
        for number, (cell, old) in enumerate(zip(self._cells, state, strict=True)):
            with variable_scopes.variable_scope(f"cell_{number}"):
                inputs, new = cell(inputs, old)
            states.append(new)
        return inputs, tuple(states)


class DropoutWrapper:
    """A cell with dropout of its inputs, state and outputs.

    The trap: TF1 drew a mask at each time step unless `variational_recurrent` was True.
    In a loop over time the step's mask is the same for all of them.

    Args:
        cell: the cell.
        input_keep_prob: fraction of the inputs to keep, above 0 and at most 1.
        output_keep_prob: fraction of the outputs to keep.
        state_keep_prob: fraction of the state to keep, without an LSTM's memory `c`.
        variational_recurrent: ignored, see above; so are input_size and dtype.
        input_size: ignored.
        dtype: ignored.
        seed: as for `tf1.layers.dropout`.

    Source: `tf.compat.v1.nn.rnn_cell.DropoutWrapper`.
    """

    def __init__(
        self,
        cell: Any,
        input_keep_prob: Any = 1.0,
        output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: Any = None,
        seed: int | None = None,
    ) -> None:
        del variational_recurrent, input_size, dtype
        self._cell, self._seed = cell, seed
        self._keep = input_keep_prob, output_keep_prob, state_keep_prob
        self.state_size, self.output_size = cell.state_size, cell.output_size
        self.zero_state = cell.zero_state

    def _drop(self, part: int, x: tf.Tensor) -> tf.Tensor:
        keep, name = self._keep[part], ("input", "output", "state")[part]
        return nn.dropout(x, keep, seed=self._seed, name=f"{name}_dropout")

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """Returns the outputs and the next state."""
        outputs, state = self._cell(self._drop(0, inputs), state, scope)
        return self._drop(1, outputs), self._drop_state(state)

    def _drop_state(self, state: Any) -> Any:
        if isinstance(state, LSTMStateTuple):
            return LSTMStateTuple(state.c, self._drop(2, state.h))
        if isinstance(state, tuple):
            return tuple(map(self._drop_state, state))
        return self._drop(2, state)


class ResidualWrapper:
    """A cell whose inputs are added to its outputs.

    Args:
        cell: the cell; its inputs have the size of its outputs.
        residual_fn: (inputs, outputs) -> outputs; None: the sum.

    Source: `tf.compat.v1.nn.rnn_cell.ResidualWrapper`.
    """

    def __init__(
        self, cell: Any, residual_fn: Callable[[Any, Any], Any] | None = None
    ) -> None:
        self._cell, self._function = cell, residual_fn or tf.add
        self.state_size, self.output_size = cell.state_size, cell.output_size
        self.zero_state = cell.zero_state

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """Returns the outputs and the next state."""
        outputs, state = self._cell(inputs, state, scope)
        return self._function(inputs, outputs), state
