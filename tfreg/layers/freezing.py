"""Freezing: `trainable = False` on a layer or a model.

    model.layers[0].trainable = False  # freezes its weights and drops its penalties
    model.trainable = True  # unfreezes the model

The trap: a flag without effect. tfreg removes the variables from `trainable_variables`
of every module that contains them.
"""

from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.collections import parts, terms


class Freezable(tf.Module, _checks.Guide):
    """A tf.Module whose variables, including submodules', can be frozen."""

    @property
    def trainable(self) -> bool:
        """Whether the variables are trained and their penalties counted.

        False freezes weights and moving statistics, also those created later. The value
        is set on all submodules. It has no effect in a tf.function that is traced
        already: trace it again, as `tfreg.Loop` does.
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
        own: Any = tf.Module.variables
        for variable in own.fget(self):
            terms.set_trainable(variable, value)
        for part in parts.list_parts(self):
            if parts.is_keras(part):
                part.trainable = value
