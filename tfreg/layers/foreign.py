"""Keras layers in tfreg's models, and checks against tfreg's layers in Keras models.

    layer = keras_layer(tfreg.layers.Dense(3))  # for a Keras model
    layer(x)
    layer.trainable_variables  # Keras's, which hold those of the Dense

The trap: a tf.Module doesn't list the variables of a Keras layer in it, which is then
never trained, and whose penalties never count. Nor does Keras list a tf.Module's.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import parts, scopes


def add_variables(
    model: Any, own: Sequence[tf.Variable], trainable: bool
) -> tuple[tf.Variable, ...]:
    """Returns a module's variables with those of the Keras layers in it.

    Args:
        model: the module.
        own: those that it lists as a tf.Module.
        trainable: whether to add only those that are trained.
    """
    held = {name: value for name, value in vars(model).items() if name[:6] != "_self_"}
    # Of the attributes: the parts of the model itself include what this returns.
    listed = parts.list_parts([tf.Module(), held])
    keras = parts.list_keras_variables(listed, trainable)
    both = [*own, *map(parts.unwrap, keras)]
    return tuple({id(variable): variable for variable in both}.values())


@scopes.do_not_convert
def check_symbolic(name: str, inputs: Any) -> None:
    """Checks that a layer of tfreg isn't part of a functional Keras model.

    Raises:
        TypeError: the inputs are a KerasTensor.
    """
    if type(inputs).__name__ == "KerasTensor":
        raise TypeError(_describe(name, "a KerasTensor"))


def keras_layer(module: Any, name: str | None = None) -> Any:
    """Returns a Keras layer that applies a layer of tfreg, or another tf.Module.

    Keras's models list the module's variables, and train them. Penalties of weights and
    activities stay those of the module: `total_loss` counts them in loops of your own,
    and `fit` gets them as losses of the Keras layer. To freeze the module set
    `trainable = False` on the Keras layer. It has no config: save the weights.

    Args:
        module: a tf.Module, called with the inputs, and with `training` or
            `is_training` if it takes one of these.
        name: of the Keras layer; None: one made by Keras.

    Raises:
        TypeError: the module isn't a tf.Module, or not callable.
    """
    if not isinstance(module, tf.Module) or not callable(module):
        raise TypeError(
            f"module must be a layer of tfreg or another callable tf.Module, got a "
            f"{type(module).__name__}: Keras's layers need no wrapper"
        )
    from tfreg.layers import wrapped

    return wrapped.Wrapped(module, name)


def check_caller(name: str) -> None:
    """Checks that no Keras layer but a `keras_layer` calls a layer of tfreg.

    Raises:
        TypeError: the call of a Keras layer is running.
    """
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        place = str(frame.f_globals.get("__name__"))
        if place == "tfreg.layers.wrapped" and code.co_name == "_make_variables":
            return
        in_keras = place.startswith("keras.")
        if in_keras and code.co_name == "__call__" and code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            if first is not None and parts.is_keras(first):
                raise TypeError(_describe(name, f"a call in the Keras {first.name}"))
        frame = frame.f_back


def _describe(name: str, place: str) -> str:
    return (
        f"{name} must be called with tensors in a tf.Module, got {place}, which "
        "wouldn't train its variables: wrap it by tfreg.layers.keras_layer, use "
        "Keras's layers there, or make the whole model of tfreg.layers"
    )
