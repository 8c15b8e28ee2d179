"""Freezing: `layer.trainable = False` on a layer or a whole model.

    model.layers[0].trainable = False  # its weights stay, its penalties are gone
    model.trainable = True  # all are back

The trap: a switch that nothing reads. Here the variables themselves leave
`trainable_variables`, of every module that holds them.
"""

from typing import Any

import tensorflow as tf

from tfreg.collections import terms


class Freezable(tf.Module):
    """A tf.Module whose variables can be frozen, with those of all modules in it."""

    @property
    def trainable(self) -> bool:
        """Whether its variables are trained and their penalties counted.

        False leaves weights and moving statistics as they are; variables made later are
        frozen too. It is set for all modules inside. A tf.function that was traced
        earlier doesn't see it: trace it again, as `tfreg.Loop` does.
        """
        return self.__dict__.get("_trains", True)

    @trainable.setter
    def trainable(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise TypeError(
                f"trainable must be a bool, got {value!r}: write True or False"
            )
        for module in (self, *self.submodules):
            if isinstance(module, Freezable):
                module.__dict__["_trains"] = value
        for variable in self.variables:
            terms.set_trainable(variable, value)
