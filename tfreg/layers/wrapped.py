"""A Keras layer that applies a tf.Module, so that Keras's models list its variables.

    layer = Wrapped(tfreg.layers.Dense(3))  # made by tfreg.layers.keras_layer
    model = keras.Sequential([keras.Input((5,)), layer])
    model.trainable_variables  # the module's kernel and bias

The trap: a Keras model lists only Keras's variables, so that a tf.Module in it is never
trained. Here each tf.Variable of the module gets a Keras variable that holds it.
"""

import inspect
from typing import Any

import keras  # noqa: TID253 - this module is imported where Keras is used
import tensorflow as tf

from tfreg.collections import parts, scopes, terms
from tfreg.layers import freezing, naming


class Wrapped(keras.Layer):
    """A module as a Keras layer.

    Args:
        module: called with the inputs, and with `training` or `is_training` if it takes
            one of these.
        name: of the layer; None: one made by Keras.
    """

    def __init__(self, module: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self.module = module
        self._listed: tuple[tf.Variable, ...] = ()
        self._argument = "training" if naming.takes_training(module) else ""
        if not self._argument and "is_training" in inspect.signature(module).parameters:
            self._argument = "is_training"
        self._list_variables()

    def __call__(self, inputs: Any, *args: Any, training: bool | None = None) -> Any:
        """Returns the module's outputs; the first call makes its variables."""
        if not self.built:
            self._make_variables(inputs)
        # Keras passes its own `training` on where none is given.
        given = {} if training is None else {"training": training}
        return super().__call__(inputs, *args, **given)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the module's outputs; Keras calls this."""
        record = scopes.get_record()
        start = len(record.losses) if record else 0
        outputs = self._apply(inputs, bool(training))
        if _is_in_fit():
            # Keras's own loop knows only its own losses. It clears them in each step.
            if not self.losses:
                for term in parts.list_terms(parts.list_parts(self.module)):
                    penalty = term()
                    if penalty is not None:
                        self.add_loss(penalty)
            for loss in record.losses[start:] if record else ():
                self.add_loss(loss.value)
        return outputs

    def _apply(self, inputs: Any, training: bool) -> Any:
        given = {self._argument: training} if self._argument else {}
        return self.module(inputs, **given)

    @scopes.do_not_convert
    def _make_variables(self, inputs: Any) -> None:
        """Traces the module to make its variables, and lists them in Keras."""

        def describe(value: Any) -> tf.TensorSpec:
            dtype = tf.as_dtype(value.dtype)
            return tf.TensorSpec(
                value.shape, self.compute_dtype if dtype.is_floating else dtype
            )

        specs = tf.nest.map_structure(describe, inputs)
        tf.function(lambda x: self._apply(x, False)).get_concrete_function(specs)
        self._list_variables()

    def _list_variables(self) -> None:
        """Makes a Keras variable for each tf.Variable that has none yet."""
        for path, variable in _list_variables(self.module):
            if any(variable is listed for listed in self._listed):
                continue
            if not _can_list():
                raise ValueError(
                    f"{self.name} must have its variables before Keras infers the "
                    "shapes of a layer around it, got a module that hasn't been "
                    "called: call it once with a batch before keras_layer"
                )
            # Inside init_scope, where Keras makes its variables.
            with tf.init_scope(), tf.variable_creator_scope(_return(variable)):
                self.add_weight(
                    shape=variable.shape,
                    initializer="zeros",
                    dtype=variable.dtype.name,
                    trainable=variable.trainable,
                    name=path.replace("/", "_"),
                )
            self._listed = (*self._listed, variable)

    @property
    def trainable(self) -> bool:
        """Whether the module is trained and its penalties counted."""
        return keras.Layer.trainable.fget(self)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.Layer.trainable.fset(self, value)
        module = self.__dict__.get("module")
        if isinstance(module, freezing.Freezable):
            module.trainable = bool(value)
        elif module is not None:
            for _, variable in _list_variables(module):
                terms.set_trainable(variable, bool(value))

    def get_config(self) -> dict:
        """Raises: a tf.Module has no config.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{self.name} must be rebuilt by your code, got a request for its config, "
            "which a tf.Module doesn't have: use save_weights and load_weights"
        )


def _list_variables(module: Any) -> list[tuple[str, tf.Variable]]:
    """Returns the variables of a module and a path of each."""
    named: dict[int, tuple[str, tf.Variable]] = {}
    for path, part in parts.name_parts(module):
        if isinstance(part, tf.Variable):
            named.setdefault(id(part), (path, part))
    return list(named.values())


def _can_list() -> bool:
    """Returns whether Keras makes variables now; where it infers shapes, it doesn't."""
    trial = keras.Variable(_make_zeros, shape=(), dtype="float32", trainable=False)
    return isinstance(trial.value, tf.Variable)


def _make_zeros(shape: Any, dtype: Any = None) -> tf.Tensor:
    return tf.zeros(shape, dtype)


def _return(variable: tf.Variable) -> Any:
    """Returns a variable creator that creates nothing."""
    return lambda next_creator, **options: variable


def _is_in_fit() -> bool:
    """Returns whether Keras's own loop runs, which adds the losses of its layers."""
    frame = inspect.currentframe()
    while frame is not None:
        in_keras = str(frame.f_globals.get("__name__")).startswith("keras.")
        if in_keras and frame.f_code.co_name in ("train_step", "test_step"):
            return True
        frame = frame.f_back
    return False
