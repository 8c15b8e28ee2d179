"""Checks against Keras layers in tfreg's models, and tfreg's layers in Keras models.

    foreign.check_keras("layers", tf.nn.relu)  # called for each member of a Sequential

The trap: a tf.Module doesn't list the variables of a Keras layer in it, which is then
never trained, and whose penalties never count. Nor does Keras list a tf.Module's.
"""

import inspect
from typing import Any

from tfreg.collections import parts, scopes


def check_keras(name: str, member: Any) -> None:
    """Checks that a member isn't a Keras layer to be trained or penalized.

    Raises:
        TypeError: an unfrozen Keras layer has trainable variables or penalties, or will
            have them once it is built.
    """
    if not parts.is_keras(member) or not member.trainable:
        return
    for inner in getattr(member, "layers", ()):
        check_keras(name, inner)
    build = getattr(type(member).build, "__code__", None)
    # A Normalization layer has only statistics.
    has_statistics = hasattr(member, "adapt")
    adds_weights = not member.built and build and "add_weight" in build.co_names
    will_train = adds_weights and not has_statistics
    penalizes = getattr(member, "activity_regularizer", None) is not None
    if member.trainable_variables or penalizes or will_train:
        raise TypeError(
            f"{name} must be layers of tfreg, got the Keras layer {member.name}, which "
            f"would neither be trained nor penalized: use tfreg.layers, call it with "
            "trainable=False, or make the whole model one of Keras"
        )


@scopes.do_not_convert
def check_symbolic(name: str, inputs: Any) -> None:
    """Checks that a layer of tfreg isn't part of a functional Keras model.

    Raises:
        TypeError: the inputs are a KerasTensor.
    """
    if type(inputs).__name__ == "KerasTensor":
        raise TypeError(_describe(name, "a KerasTensor"))


def check_caller(name: str) -> None:
    """Checks that no Keras layer calls a layer of tfreg.

    Raises:
        TypeError: the call of a Keras layer is running.
    """
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        in_keras = str(frame.f_globals.get("__name__")).startswith("keras.")
        if in_keras and code.co_name == "__call__" and code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            if first is not None and parts.is_keras(first):
                raise TypeError(_describe(name, f"a call in the Keras {first.name}"))
        frame = frame.f_back


def _describe(name: str, place: str) -> str:
    return (
        f"{name} must be called with tensors in a tf.Module, got {place}, which "
        "wouldn't train its variables: use Keras's layers there, with tfreg's "
        "regularizers, or make the whole model of tfreg.layers"
    )
