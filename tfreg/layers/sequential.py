"""Layers one after another, named by their places.

    layers = [tfreg.layers.Dense(128, tf.nn.relu), tfreg.layers.Dense(10)]
    model = tfreg.layers.Sequential(layers)
    logits = model(x, training=True)

The trap: a member that is never trained, as a layer of Keras among those of tfreg.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.collections import parts
from tfreg.layers import base, foreign, freezing, naming


class Sequential(freezing.Freezable):
    """Layers one after another; those without a name are called `dense_0`, `dense_1`...

    Args:
        layers: layers of this module, or functions of a tensor such as `tf.nn.relu`;
            those with an argument `training` are told whether it is.

    Raises:
        TypeError: a member isn't callable, or is a class; a Keras layer with something
            to train or to penalize, also at the first call.
        ValueError: two layers were given the same name.

    Source: `keras.Sequential`.
    """

    def __init__(self, layers: Sequence[Callable]) -> None:
        super().__init__()
        members = tuple(_checks.check_function("layers", m, "[f, g]") for m in layers)
        for member in members:
            foreign.check_keras("layers", member)
        self._takes_training = tuple(map(naming.takes_training, members))
        self.layers = members
        naming.set_names(naming.find_layers(members))

    def __setattr__(self, name: str, value: Any) -> None:
        # Before its layers are there it may be a subclass's own.
        if name.endswith("_regularizer") and hasattr(self, "layers"):
            base.refuse_attribute(self, name, value, "tfreg.rules.apply(rules, it)")
        super().__setattr__(name, value)

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the last layer's outputs."""
        foreign.check_symbolic(f"a {type(self).__name__}", inputs)
        for layer, takes in zip(self.layers, self._takes_training, strict=True):
            inputs = layer(inputs, training=training) if takes else layer(inputs)
            if parts.is_keras(layer):
                # Some make their weights only now.
                foreign.check_keras("layers", layer)
        return inputs
