"""What follows an update: averages of the weights, and constraints.

    average = tfreg.optimizers.ema(0.999)
    cross_entropy = tfreg.losses.sparse_softmax_cross_entropy
    adam = tfreg.optimizers.adam(1e-3)
    step = tfreg.Step(model, cross_entropy, adam, after=[average])
    loop = tfreg.Loop(step, dataset.train)
    with average.applied():
        report = loop.evaluate(dataset.validation)

A hook is any function (variables, step), of the trained variables by their paths and of
the number of updates with this one. It runs in the compiled step, in a replica on its
own copies, in the order of the list, and not after an update that float16 skips. It
assigns by `tfreg.optimizers.assign(variable, value)`. The trap: a constraint applied in
Python after the step, which the steps of a compiled loop never see.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg import _checks, _tensorflow
from tfreg.collections import parts, scopes
from tfreg.optimizers import optimizer

Hook: TypeAlias = Callable[[Mapping[str, tf.Variable], tf.Tensor], None]


class Ema(tf.Module):
    """The exponential moving average of the trained variables; see `ema`.

    Attributes:
        averages: variables, in the order of their creation.
    """

    def __init__(self, decay: float) -> None:
        super().__init__("ema")
        self.decay = _checks.check_fraction("decay", decay)
        self.averages: list[tf.Variable] = []
        self._averaged: tuple = ()  # References of the averaged variables.

    def build(self, variables: Mapping[str, tf.Variable]) -> None:
        """Creates the averages of variables that have none.

        Args:
            variables: all that are ever trained.
        """
        new = [v for v in variables.values() if v.ref() not in self._averaged]
        if not new:
            return
        with tf.init_scope():
            # NaN until the first update, which may be that of a later epoch.
            nothing = [tf.fill(v.shape, tf.constant(math.nan, v.dtype)) for v in new]
            pairs = zip(new, nothing, strict=True)
            created = [optimizer.make_slot(v, "ema", value) for v, value in pairs]
        self.averages.extend(created)
        self._averaged = (*self._averaged, *(v.ref() for v in new))

    @scopes.do_not_convert
    def __call__(self, variables: Mapping[str, tf.Variable], step: tf.Tensor) -> None:
        """Moves the averages towards the variables; a first update copies these."""
        del step
        for variable in variables.values():
            average = self.averages[self._averaged.index(variable.ref())]
            value, old = variable.read_value(), average.read_value()
            new = old + tf.cast(1.0 - self.decay, value.dtype) * (value - old)
            _tensorflow.assign(average, tf.where(tf.math.is_nan(old), value, new))

    def _list(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Returns the variables that were updated, and their averages."""
        averaged = [reference.deref() for reference in self._averaged]
        pairs = zip(averaged, self.averages, strict=True)
        return [(v, a) for v, a in pairs if not np.isnan(a.numpy()).any()]

    def assign(self) -> None:
        """Gives the variables the values of their averages."""
        for variable, average in self._list():
            variable.assign(average)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Contains code in which the variables have the values of their averages.

        Raises:
            ValueError: there was no step yet.
        """
        if not self._averaged:
            raise ValueError(
                "applied must be called after a step or a Loop has been made, got no "
                "averages: train first"
            )
        before = [(variable, tf.identity(variable)) for variable, _ in self._list()]
        try:
            self.assign()
            yield
        finally:
            for variable, value in before:
                variable.assign(value)


def ema(decay: float = 0.999) -> Ema:
    """Returns the exponential moving average of the trained variables.

    `average += (1 - decay) * (w - average)` after each update, from the first updated
    values on. BatchNorm's statistics are not averaged, as they are averages already.

    Args:
        decay: float in [0, 1), per update.

    Raises:
        ValueError: `decay` is out of range.

    Source: Keras's `use_ema=True, ema_momentum=decay`; Polyak & Juditsky 1992;
        `tf.train.ExponentialMovingAverage` starts from the initial values.
    """
    return Ema(decay)


class Constraint:
    """A Keras constraint of the variables that a pattern matches; see `constrain`."""

    def __init__(self, make: Callable[[int], Callable], pattern: str) -> None:
        self._make, self.pattern = make, pattern

    def build(self, variables: Mapping[str, tf.Variable]) -> None:
        """Checks the pattern.

        Raises:
            ValueError: it matches nothing.
        """
        if not self._list(variables):
            raise ValueError(
                f"a constraint must match a variable, got {self.pattern!r}, and the "
                f"variables are {', '.join(variables)}: change the pattern"
            )

    def _list(self, variables: Mapping[str, tf.Variable]) -> Sequence[tf.Variable]:
        named = variables.items()
        return [v for path, v in named if parts.matches_path(self.pattern, path)]

    @scopes.do_not_convert
    def __call__(self, variables: Mapping[str, tf.Variable], step: tf.Tensor) -> None:
        """Projects the variables."""
        del step
        for variable in self._list(variables):
            project = self._make(variable.shape.rank)
            _tensorflow.assign(variable, project(variable.read_value()))


def constrain(constraint: Callable[[Any], Any], pattern: str = ".*") -> Constraint:
    """Returns a hook that applies a Keras constraint after each update.

    Args:
        constraint: of `keras.constraints`, or any function tensor -> tensor.
        pattern: regular expression on the variables' paths, or parts of them.

    Raises:
        ValueError: the pattern isn't a regular expression.
    """
    return Constraint(lambda rank: constraint, _checks.check_pattern(pattern, "kernel"))


def max_norm(limit: float = 2.0, pattern: str = "kernel|w") -> Constraint:
    """Returns a hook that keeps the incoming weights of each unit below a norm.

    The norm is over all axes but the last, which is that of the units in kernels of
    dense layers and convolutions.

    Args:
        limit: finite float > 0, the largest L2 norm.
        pattern: regular expression on the variables' paths, or parts of them.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras `MaxNorm`, whose axis is 0 for dense kernels and `[0, 1, 2]` for those
        of Conv2D; Srivastava et al. 2014.
    """
    limit = _checks.check_float("limit", limit)

    def make(rank: int) -> Callable:
        axes = list(range(max(rank - 1, 1)))
        return tf.keras.constraints.MaxNorm(limit, axes)

    return Constraint(make, _checks.check_pattern(pattern, "kernel"))


def non_negative(pattern: str = ".*") -> Constraint:
    """Returns a hook that sets negative weights to 0.

    Args:
        pattern: regular expression on the variables' paths, or parts of them.

    Raises:
        ValueError: the pattern isn't a regular expression.

    Source: Keras `NonNeg`.
    """
    return constrain(tf.keras.constraints.NonNeg(), pattern)


def check(after: Sequence[Any]) -> list[Hook]:
    """Returns the hooks of a step.

    Raises:
        TypeError: one isn't callable.
    """
    hooks = [after] if callable(after) else list(after)
    for hook in hooks:
        if not callable(hook) or isinstance(hook, type):
            raise TypeError(
                f"after must hold functions (variables, step), got {hook!r}: write for "
                "example [tfreg.optimizers.ema(0.999)]"
            )
    return hooks
