"""Layers applied in sequence, named by their positions.

    layers = [tfreg.layers.Dense(128, tf.nn.relu), tfreg.layers.Dense(10)]
    model = tfreg.layers.Sequential(layers)
    logits = model(x, training=True)

The trap: a member that is never trained, such as a Keras layer, whose variables a
tf.Module doesn't list. A Sequential does.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.collections import scopes
from tfreg.layers import base, foreign, freezing, naming


class Sequential(freezing.Freezable):
    """Layers applied in sequence; unnamed ones get the names `dense_0`, `dense_1`, ...

    Args:
        layers: layers of tfreg or Keras, or functions of a tensor such as `tf.nn.relu`.
            A member with an argument `training` gets its value. The variables of Keras
            layers are listed with the others; their penalties count in a `tfreg.Step`,
            or where your loop adds the layers' `losses` by `tfreg.add_loss`.

    Raises:
        TypeError: a member isn't callable, or is a class.
        ValueError: two layers have the same name.

    Source: `keras.Sequential`.
    """

    def __init__(self, layers: Sequence[Callable]) -> None:
        super().__init__()
        members = tuple(_checks.check_function("layers", m, "[f, g]") for m in layers)
        self._takes_training = tuple(map(naming.takes_training, members))
        self.layers = members
        naming.set_names(naming.find_layers(members))

    def __repr__(self) -> str:
        members = ", ".join(
            each.__name__ if inspect.isfunction(each) else repr(each)
            for each in self.layers
        )
        members = members if len(members) < 80 else f"{len(self.layers)} layers"
        return f"{type(self).__name__}({members})"

    def __setattr__(self, name: str, value: Any) -> None:
        # Before `layers` exists, the attribute may be a subclass's.
        if name.endswith("_regularizer") and hasattr(self, "layers"):
            base.refuse_attribute(self, name, value, "tfreg.rules.apply(rules, it)")
        super().__setattr__(name, value)

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the last layer's outputs."""
        foreign.check_symbolic(f"a {type(self).__name__}", inputs)
        for layer, takes in zip(self.layers, self._takes_training, strict=True):
            call = scopes.convert(layer)
            inputs = call(inputs, training=training) if takes else call(inputs)
        return inputs

    @property
    def trainable_variables(self) -> tuple[tf.Variable, ...]:
        """The variables to train, those of Keras layers last."""
        return foreign.add_variables(self, super().trainable_variables, True)

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """All variables, those of Keras layers last."""
        return foreign.add_variables(self, super().variables, False)
