"""Keras optimizers in a training step, beside those of tfreg.

    optimizer = foreign.KerasOptimizer(keras.optimizers.Lion(1e-4))
    optimizer.apply(gradients, model.trainable_variables, summed=True)

The trap: in a replica a Keras optimizer sums the gradients itself, after it has clipped
its own share. Here it gets sums of clipped gradients divided by the number of replicas.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import scopes
from tfreg.optimizers import gradients as sums


class KerasOptimizer(tf.Module):
    """A Keras optimizer with the methods of `Optimizer`.

    Args:
        optimizer: of Keras, created in the `strategy.scope()` of the model.

    Attributes:
        step: integer scalar variable, the number of updates applied.
        takes_rows: whether IndexedSlices update only the rows looked up.
        sums_over_replicas: whether an update sums over the replicas itself.
        rate: the first learning rate, or a schedule of Keras.
        weight_decay: of the optimizer.

    Raises:
        ValueError: the optimizer clips or accumulates gradients, or scales the loss,
            which is the step's task.
    """

    takes_rows = False
    sums_over_replicas = True

    def __init__(self, optimizer: Any) -> None:
        super().__init__(type(optimizer).__name__)  # Its own name has a number.
        _check(optimizer)
        self._optimizer = (optimizer,)  # A tuple isn't tracked for checkpoints.
        rate = optimizer.get_config()["learning_rate"]
        if isinstance(rate, dict):
            rate = tf.keras.optimizers.schedules.deserialize(rate)
        self.rate, self.weight_decay = rate, optimizer.weight_decay or 0.0
        self._known: tuple = ()
        self._wrapped: tuple = ()  # The same variables as Keras's.
        self.step = optimizer.iterations.value
        self.slots = [v.value for v in optimizer.variables]

    def __repr__(self) -> str:
        is_float = isinstance(self.rate, float)
        return f"{self.name}({self.rate if is_float else type(self.rate).__name__})"

    def learning_rate(self) -> tf.Tensor:
        """Returns the learning rate of the next update, a float32 scalar."""
        return tf.cast(self._optimizer[0].learning_rate, tf.float32)

    def follow(self, step: tf.Variable) -> None:
        """Leaves Keras's schedule as it is, a function of its own updates."""
        del step

    def find(self, variable: tf.Variable) -> "KerasOptimizer":
        """Returns the optimizer that updates a variable, which is this one."""
        del variable
        return self

    def list_slots(self) -> list[tf.Variable]:
        """Returns the variables that have slots, in the order of these."""
        return [reference.deref() for reference in self._known]

    @scopes.do_not_convert
    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Creates the slots of the variables.

        A Keras optimizer can't get more later, so a `tfreg.Step` builds it with those
        of frozen layers too.

        Raises:
            ValueError: there are other variables than in the first call.
        """
        optimizer = self._optimizer[0]
        if not self._known:
            with tf.init_scope():
                self._wrapped = tuple(map(_wrap, variables))
                optimizer.build(list(self._wrapped))
            self._known = tuple(v.ref() for v in variables)
            self.slots.extend(v.value for v in optimizer.variables[len(self.slots) :])
        new = [v.name for v in variables if v.ref() not in self._known]
        if new:
            raise ValueError(
                f"variables of a Keras optimizer must be those of its first step, got "
                f"{', '.join(new)} as well: use an optimizer of tfreg.optimizers, or "
                "build it with all variables"
            )

    @scopes.do_not_convert
    def apply(
        self,
        gradients: Sequence[sums.Gradient],
        variables: Sequence[tf.Variable],
        summed: bool = False,
    ) -> None:
        """Applies one update to the variables, as `Optimizer.apply`.

        Args:
            gradients: one per variable; None leaves a variable unchanged.
            variables: those of `build`, or a part of them.
            summed: whether the gradients are sums over all replicas already.
        """
        self.build(variables)
        replicas = scopes.count_replicas()
        if summed and replicas > 1:
            gradients = [sums.multiply(g, 1 / replicas) for g in gradients]
        listed = [self._wrapped[self._known.index(v.ref())] for v in variables]
        pairs = zip(gradients, listed, strict=True)
        used = [(g, v) for g, v in pairs if g is not None]
        self._optimizer[0].apply([g for g, _ in used], [v for _, v in used])


def _wrap(variable: tf.Variable) -> Any:
    """Returns a Keras variable that holds a tf.Variable.

    Muon and Adafactor read its path, which a tf.Variable doesn't have.
    """

    def create(_: Any, **options: Any) -> tf.Variable:
        del options
        return variable

    *scope, name = variable.name.partition(":")[0].split("/")
    with contextlib.ExitStack() as stack:
        for part in scope:
            stack.enter_context(tf.keras.name_scope(part))
        stack.enter_context(tf.variable_creator_scope(create))
        return tf.keras.Variable(
            "zeros",
            shape=variable.shape,
            dtype=variable.dtype.name,
            trainable=variable.trainable,
            name=name,
        )


def _check(optimizer: Any) -> None:
    replacements = {
        "clipnorm": "Step(clip_norm=...)",
        "clipvalue": "Step(clip_norm=...)",
        "global_clipnorm": "Step(clip_norm=...)",
        "gradient_accumulation_steps": "Step(accumulate=...)",
        "inner_optimizer": "Step(precision='float16')",
    }
    for name, replacement in replacements.items():
        if getattr(optimizer, name, None):
            raise ValueError(
                f"{name} of a Keras optimizer must not be set in a Step, got "
                f"{getattr(optimizer, name)!r}: use {replacement}"
            )
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    if overwrites and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise ValueError(
            "ema_overwrite_frequency of a Keras optimizer must be None on several "
            f"replicas, got {optimizer.ema_overwrite_frequency!r}: leave it out"
        )
