"""Keras's layers among tfreg's and the other way round, which is refused.

    foreign.check_keras("layers", tf.nn.relu)  # as each member of a Sequential

The trap: a Keras layer among tf.Modules, which list none of its variables: it is never
trained, and its penalties are counted nowhere. Nor does Keras list a tf.Module's.
"""

import inspect
from typing import Any

from tfreg.collections import parts, scopes


def check_keras(name: str, member: Any) -> None:
    """Raises where a Keras layer has something to train or to penalize.

    Raises:
        TypeError: it has, or will have when it is built; one that is frozen hasn't.
    """
    if not parts.is_keras(member) or not member.trainable:
        return
    for inner in getattr(member, "layers", ()):
        check_keras(name, inner)
    build = getattr(type(member).build, "__code__", None)
    # A Normalization has statistics alone.
    is_normal = hasattr(member, "adapt")
    makes = not member.built and build and "add_weight" in build.co_names
    penalizes = getattr(member, "activity_regularizer", None) is not None
    if member.trainable_variables or penalizes or (makes and not is_normal):
        raise TypeError(
            f"{name} must be layers of tfreg, got the Keras layer {member.name}, which "
            f"would neither be trained nor penalized: use tfreg.layers, call it with "
            "trainable=False, or make the whole model one of Keras"
        )


@scopes.do_not_convert
def check_symbolic(name: str, inputs: Any) -> None:
    """Raises where a functional Keras model is built of a layer of tfreg.

    Raises:
        TypeError: the inputs are Keras's symbolic ones.
    """
    if type(inputs).__name__ == "KerasTensor":
        raise TypeError(_describe(name, "a KerasTensor"))


def check_caller(name: str) -> None:
    """Raises where a Keras layer's `call` is running, which owns no tf.Module.

    Raises:
        TypeError: a Keras layer calls this.
    """
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        of_keras = str(frame.f_globals.get("__name__")).startswith("keras.")
        if of_keras and code.co_name == "__call__" and code.co_argcount:
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
