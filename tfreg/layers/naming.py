"""What a Sequential does with its members: it names them, and tells who is asked.

    members = [layers.Dense(3), tf.nn.relu, layers.Dense(2)]
    naming.set_names(naming.find_layers(members))

The trap: names that depend on what was made before, and with them the initial values.
"""

import inspect
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from tfreg.layers import base


def takes_training(function: Any) -> bool:
    """Tells whether a function or a layer, Keras's too, has an argument `training`."""
    try:
        signature = inspect.signature(getattr(function, "call", function))
    except (TypeError, ValueError):
        return False  # A builtin that tells no signature.
    return "training" in signature.parameters


def find_layers(members: Iterable[Any]) -> list[base.Layer]:
    """Returns the layers among these and in the Sequentials among these, each once."""
    found: list[base.Layer] = []
    for member in members:
        inner = getattr(member, "layers", ())
        if isinstance(member, base.Layer):
            found.append(member)
        elif isinstance(inner, Sequence):
            found += find_layers(inner)
    return list(dict.fromkeys(found))


def set_names(layers: Sequence[base.Layer]) -> None:
    """Names layers without a name `<kind>_<i>`, the i-th of its kind among these.

    A name that an inner Sequential gave is changed where an earlier layer has it too,
    unless variables were made under it.

    Raises:
        ValueError: two layers were given the same name.
    """
    taken = {layer._label for layer in layers}
    seen: set[str] = set()
    counts: dict[str, int] = {}
    for layer in layers:
        kind = layer.kind
        place = counts[kind] = counts.get(kind, -1) + 1
        if layer._label in seen and not layer._is_placed:
            raise ValueError(
                f"layers must have names of their own, got two called {layer._label!r}:"
                " give one of them another name"
            )
        clash = layer._label in seen and not layer.variables
        if layer._label is None or clash:
            names = (f"{kind}_{i}" for i in itertools.count(place))
            layer._set_label(next(name for name in names if name not in taken))
            layer._is_placed = True
        taken.add(layer.name)
        seen.add(layer.name)
