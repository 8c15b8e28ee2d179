"""Names for the layers of a Sequential.

    members = [layers.Dense(3), tf.nn.relu, layers.Dense(2)]
    naming.set_names(naming.find_layers(members))

The trap: names, and so initial values, that depend on the layers created before.
"""

import inspect
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from tfreg.layers import base


def takes_training(function: Any) -> bool:
    """Returns whether a function or layer, Keras's too, has an argument `training`."""
    try:
        signature = inspect.signature(getattr(function, "call", function))
    except (TypeError, ValueError):
        return False  # A builtin without a signature.
    return "training" in signature.parameters


def find_layers(members: Iterable[Any]) -> list[base.Layer]:
    """Returns the layers among members and in nested Sequentials, each once."""
    layers: list[base.Layer] = []
    for member in members:
        inner = getattr(member, "layers", ())
        if isinstance(member, base.Layer):
            layers.append(member)
        elif isinstance(inner, Sequence):
            layers += find_layers(inner)
    return list(dict.fromkeys(layers))


def set_names(layers: Sequence[base.Layer]) -> None:
    """Names each unnamed layer `<kind>_<i>`, where `i` counts the layers of its kind.

    A name from a nested Sequential is replaced if an earlier layer has it too, unless
    the layer has variables already.

    Raises:
        ValueError: two layers have the same name from the user.
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
