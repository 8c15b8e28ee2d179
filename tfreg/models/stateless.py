"""Keras layers without side effects: the variables of one step as tensors.

    dense = keras.layers.Dense(3)
    outputs = dense(x)  # creates its variables
    with stateless.Scope(dense.variables) as scope:
        outputs = dense(x, training=True)
    scope.get_updates()  # of BatchNorm and other statistics; none here

The trap: a Keras layer assigns its statistics and keeps its losses while it is traced,
which replicas and XLA can't share. Here the statistics are returned, the losses are
those of the step, and the seeds of random numbers are a function of a key.
"""

import functools
import inspect
import threading
import types
from collections.abc import Sequence
from typing import Any

import keras  # noqa: TID253 - this module is imported where Keras is used
import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import ownership, parts, random, scopes, store

_UNKNOWN = 2**32 - 1  # Position of a generator that no part of the model holds.
_open = threading.local()  # The innermost scope of each thread.


class Scope(keras.StatelessScope):
    """Gives Keras layers tensors for their variables, and collects what they assign.

    A scope inside another passes on what belongs to the outer one's variables.

    Args:
        variables: the Keras variables of a model.
        key: uint32 `[2]`, from which the seeds of random numbers are derived, with
            their own initial value and their position among the variables. Each draw
            has another seed. None: the seeds' own values.

    Raises:
        ValueError: a variable has no value yet.
    """

    def __init__(self, variables: Sequence[Any], key: tf.Tensor | None = None) -> None:
        divides_activity()  # Measured before Keras's layers call this scope.
        self._variables = {id(v): v for v in variables}
        self._positions = {id(v): i for i, v in enumerate(variables)}
        self._key = key
        self._draws: dict[int, int] = {}
        self._assigned: dict[int, tuple[Any, tf.Tensor]] = {}
        self._is_reading = False
        self._outer: Scope | None = getattr(_open, "scope", None)
        mapping = [(v, _read(v)) for v in variables if not is_seed(v)]
        super().__init__(mapping, collect_losses=True)

    def __enter__(self) -> "Scope":
        _open.scope = self
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        _open.scope = self._outer

    def _find(self, variable: Any) -> "Scope":
        """Returns the innermost scope that knows a variable, this one if none does."""
        scope: Scope | None = self
        while scope is not None and id(variable) not in scope._variables:
            scope = scope._outer
        return scope or self

    def get_current_value(self, variable: Any) -> tf.Tensor | None:
        """Returns a variable's value, None for Keras to read it; Keras calls this."""
        if self._is_reading:
            return None
        scope = self._find(variable)
        if not is_seed(variable):
            return scope.state_mapping.get(id(variable))
        number = scope._draws.get(id(variable), 0)
        seed = scope._derive_seed(variable)
        return seed + tf.constant([0, number], seed.dtype)

    def _derive_seed(self, variable: Any) -> tf.Tensor:
        self._is_reading = True  # Keras's global generator isn't known yet.
        try:
            state = tf.convert_to_tensor(parts.unwrap(variable))
        finally:
            self._is_reading = False
        if self._key is None:
            return state
        position = self._positions.get(id(variable), _UNKNOWN)
        key = random.fold(self._key, state[tf.newaxis])
        key = random.fold(key, position)[0]
        # Two non-negative int32: any dtype of Keras's seeds can hold them.
        return tf.cast(
            tf.bitwise.right_shift(key, tf.constant(1, tf.uint32)), state.dtype
        )

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Records an assigned value; Keras calls this."""
        variable, value = update
        scope = self._find(variable)
        if is_seed(variable):
            # Counted: a seed computed in a branch or loop isn't readable outside.
            scope._draws[id(variable)] = scope._draws.get(id(variable), 0) + 1
            return
        if variable.trainable and id(variable) in scope._variables:
            raise ValueError(
                f"{variable.path} must be changed by the optimizer only, got an "
                "assignment in the forward pass, which would compete with it: write "
                "the layer so that it computes the value, or set trainable=False"
            )
        scope.state_mapping[id(variable)] = value
        scope._assigned[id(variable)] = variable, value

    @scopes.do_not_convert
    def add_loss(self, loss: Any) -> None:
        """Adds a layer's loss to the step; Keras calls this."""
        layer, call = _find_caller()
        path = getattr(layer, "path", None) or getattr(layer, "name", "keras")
        if call is not None and not divides_activity():
            outputs = call.f_locals["output"]
            if outputs.shape.rank != 0:
                size = tf.cast(tf.shape(outputs)[0], loss.dtype)
                loss = tf.math.divide_no_nan(loss, size)
        name = f"{path}/{'loss' if call is None else 'activity'}"
        ownership.add_loss(loss, name, layer, store.get_default_store())

    def get_updates(self) -> list[tuple[tf.Variable, tf.Tensor]]:
        """Returns the variables that the layers have assigned, with the last values.

        Raises:
            ValueError: a value was computed in a branch or loop.
        """
        chain = _tensorflow.get_chain(scopes.get_graph())
        for variable, value in self._assigned.values():
            graph = value.graph if tf.is_symbolic_tensor(value) else None
            if graph is not None and graph not in chain:
                raise ValueError(
                    f"{variable.path} must be assigned outside of branches and loops, "
                    f"got a value of {graph.name}: call the layer outside of tf.cond, "
                    "tf.while_loop and tf.recompute_grad"
                )
        return [(parts.unwrap(v), value) for v, value in self._assigned.values()]


def is_seed(variable: Any) -> bool:
    """Returns whether a Keras variable is the state of a `SeedGenerator`."""
    return variable.name == "seed_generator_state" and not variable.trainable


def _read(variable: Any) -> tf.Tensor:
    known = parts.unwrap(variable)
    if not isinstance(known, tf.Variable):
        raise ValueError(
            f"{variable.path} must have a value before the step, got a Keras layer "
            "that isn't built: call build(x) of the adapted model first, with a few "
            "examples"
        )
    return tf.convert_to_tensor(known)


def _find_caller() -> tuple[Any, types.FrameType | None]:
    """Returns the layer that adds a loss, and its `__call__` if that adds it."""
    owner = parts.find_owner()
    frame = inspect.currentframe()
    while frame is not None and not _is_method(frame, owner, "add_loss"):
        frame = frame.f_back
    while frame is not None and _is_method(frame, owner, "add_loss"):
        frame = frame.f_back  # A layer may override it and call its parent's.
    if frame is None or not _is_method(frame, owner, "__call__"):
        return owner, None
    return owner, frame


def _is_method(frame: types.FrameType, owner: Any, name: str) -> bool:
    code = frame.f_code
    is_name = code.co_name.removeprefix("tf__") == name and code.co_argcount > 0
    return is_name and frame.f_locals.get(code.co_varnames[0]) is owner


@functools.cache
def divides_activity() -> bool:
    """Returns whether Keras divides an activity penalty by the batch size.

    Keras 3.14 and later do, Keras 3.0 to 3.13 don't.
    """
    with tf.init_scope():
        layer = keras.layers.ActivityRegularization(l2=1.0, name="probe")
        layer(tf.ones([2, 1]))
        return float(layer.losses[0]) == 1.0
