"""TF1's `tf.Variable` and moving averages of tensors, in forward functions.

    def forward(x):
        w = tf1.Variable(tf.zeros([5, 3]), name="w")
        average = tf1.ExponentialMovingAverage(0.9)
        average.apply([x])
        return x @ w, average.average(x)

    net = tf1.Model(forward)
    logits, mean = net(x)

The trap: in TensorFlow 2 `tf.Variable` creates another variable at each call.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tfreg.tf1 import variable_scopes, variables

_GLOBAL = variables.GraphKeys.GLOBAL_VARIABLES
_TRAINABLE = variables.GraphKeys.TRAINABLE_VARIABLES


def Variable(  # noqa: N802
    initial_value: Any,
    trainable: bool = True,
    collections: Sequence[Hashable] | None = None,
    *,
    name: str | None = None,
    dtype: Any = None,
    constraint: Callable[[Any], Any] | None = None,
) -> tf.Variable:
    """Returns the variable that the first forward pass has created in this place.

    Outside a forward pass it is a new `tf.Variable`.

    Args:
        initial_value: anything that converts to a tensor, or a function of nothing.
        trainable: whether the variable is trained. As in TF1, any text is true, such as
            a name that was meant to be the name.
        collections: keys that a new variable is added to; None: GLOBAL_VARIABLES.
        name: in the variable scope, with a number if the pass has it already; None:
            Variable. A `tf.name_scope` isn't part of it.
        dtype: None: that of the value.
        constraint: callable, the updated value -> the value to keep.

    Raises:
        ValueError: the initial value depends on the arguments of a tf.function.

    Source: `tf.compat.v1.Variable`.
    """
    trainable = bool(trainable)
    if not callable(initial_value):
        initial_value = tf.convert_to_tensor(initial_value, dtype)
    if variable_scopes.find_pass() is None:
        return tf.Variable(
            initial_value, trainable, name=name, dtype=dtype, constraint=constraint
        )
    if callable(initial_value):
        dtype = tf.convert_to_tensor(initial_value(), dtype).dtype
    else:
        dtype = initial_value.dtype
    keys = variables.list_keys(_GLOBAL if collections is None else collections)
    keys += [_TRAINABLE] * trainable
    return _get_numbered(
        name or "Variable", None, dtype, initial_value, trainable, keys, constraint
    )


def _get_numbered(name: str, *arguments: Any) -> tf.Variable:
    """Returns the store's variable of a name, numbered within the pass."""
    current = variable_scopes.get_pass(f"Variable({name!r})")
    first = full = current.scope.join(name)
    number = 0
    while full in current.seen:
        number += 1
        full = f"{first}_{number}"
    current.seen.add(full)
    return current.owner.get(full, *arguments)[0]


class ExponentialMovingAverage(tf.train.ExponentialMovingAverage):
    """Moving averages of variables, and of the tensors of a forward pass.

    An average of a tensor begins at 0. Its variable is in the variable scope, by the
    name of the averages and a number.

    Args:
        decay: float or scalar tensor.
        num_updates: optional number of updates so far, which lowers the decay to at
            most `(1 + num_updates) / (10 + num_updates)`.
        zero_debias: whether averages of tensors are divided by what 0 has left of them;
            only False.
        name: of the averages.

    Raises:
        ValueError: `zero_debias`.

    Source: `tf.compat.v1.train.ExponentialMovingAverage`.
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        if zero_debias:
            raise ValueError(
                "zero_debias must be False, got True: divide by 1 - decay ** steps"
            )
        super().__init__(decay, num_updates, name=name)
        self._given = decay, num_updates
        # Tensor's id -> the tensor, which keeps its id, and the average.
        self._averages: dict[int, tuple[Any, tf.Variable]] = {}

    def apply(self, var_list: Iterable[Any] | None = None) -> Any:
        """Updates the averages of variables and of tensors; returns the update."""
        listed = variables.trainable_variables() if var_list is None else [*var_list]
        held = [value for value in listed if isinstance(value, tf.Variable)]
        updates = [super().apply(held)] if held else []
        decay, count = self._given
        if count is not None:
            count = tf.cast(count, tf.float32)
            decay = tf.minimum(decay, (1.0 + count) / (10.0 + count))
        for value in listed:
            if not isinstance(value, tf.Variable):
                average = self._find(value)
                change = (average - value) * tf.cast(1.0 - decay, value.dtype)
                updates.append(average.assign_sub(change))
        return tf.group(*updates)

    def average(self, var: Any) -> Any:
        """Returns the variable that holds an average; None: a variable without one."""
        return super().average(var) if isinstance(var, tf.Variable) else self._find(var)

    def _find(self, value: tf.Tensor) -> tf.Variable:
        if id(value) not in self._averages:
            shape, zeros = value.shape, tf.zeros_initializer()
            average = _get_numbered(
                self.name, shape, value.dtype, zeros, False, [_GLOBAL]
            )
            self._averages[id(value)] = value, average
        return self._averages[id(value)][1]
