"""Undoes the steps of a call from the first that fails on.

    from tfreg.training import recovery

    report = tfreg.training.reports.Report(float("nan"), 0.0, {}, {})
    recovery.find_nonfinite(report.get_scalars())  # ("loss/data", nan)

The traps: a check of every step, which costs more than the penalties, and NaN weights
that a ReLU hides from the report of a later step. A call is checked once; one that
fails is repeated step by step from a copy of the variables.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.training import compiling, feeding, reports, step

# The losses and the update of the last step, and the sums over the epoch.
Done: TypeAlias = tuple[reports.Losses, reports.Update, reports.Sums]


class LossError(ArithmeticError):
    """A loss or a gradient isn't finite; scripts end with exit status 5."""


class Guard:
    """Runs the calls of a loop, and undoes what fails.

    Args:
        train_step: the training step, with all its variables, as it is compiled.
        feed: what the calls come from.
        run: (call, epoch, sums so far) -> the outcome of the steps.
        sums: zeros.

    Attributes:
        sums: over the examples of the epoch, after the last step that didn't fail.
    """

    def __init__(
        self,
        train_step: step.Step,
        feed: feeding.Feed,
        run: Callable[[feeding.Call, int, reports.Sums], Done],
        sums: reports.Sums,
    ) -> None:
        self._step, self._feed, self._run = train_step, feed, run
        self._is_finite = compiling.trace(_check_finite)
        self._copy_variables = compiling.trace(self._read_variables)
        # Once: a walk through 150 layers takes as long as one of their steps.
        self._variables = list_variables(train_step, train_step.get_state())
        trained = train_step.adapted.trainable_variables
        self._weights = [v for v in trained if v.dtype.is_floating]
        self.sums = sums

    def run(self, call: feeding.Call, epoch: int) -> Done:
        """Runs steps; undoes those from the first that fails on, and raises.

        Raises:
            LossError: names the step whose loss or gradient isn't finite.
            data.DataError: a batch can't be read.
        """
        # Checked once per call: a norm at every step would cost about 5% of its time.
        before = self._copy_variables()
        unread: data.DataError | None = None
        try:
            done = self._run(call, epoch, self.sums)
        except data.DataError as error:
            unread = error  # The step may have been counted already.
            if self._feed.is_shared:  # Others wait in it: they can't repeat steps.
                raise self._name_step(error) from None
        if unread is None and self._succeeded(done):
            self.sums = done[2]
            return done
        self._restore_variables(before)
        self._repeat(self._feed.reopen(call, epoch), epoch)
        # It could be read this time, but the open iterator has ended.
        raise self._name_step(unread or "a batch must be the same again")

    def _repeat(self, call: feeding.Call, epoch: int) -> None:
        """Runs a call step by step to the first that fails, and raises."""
        for i in range(call.start, call.stop):
            before = self._copy_variables()
            try:
                done = self._run(call._replace(start=i, stop=i + 1), epoch, self.sums)
            except data.DataError as error:
                self._restore_variables(before)
                raise self._name_step(error) from None
            if self._succeeded(done):
                self.sums = done[2]
                continue
            self._restore_variables(before)
            tag, value = find_nonfinite(_get_scalars(*done)) or ("every weight", "nan")
            number = int(self._step.optimizer.step.numpy()) + 1
            advice = "lower learning_rate or scale, or check the range of the labels"
            bad = self._feed.describe_nonfinite(self._feed.reopen(call, epoch), i)
            raise LossError(
                f"{tag} must be finite, got {value} at step {number}, which is not "
                f"applied: {bad or advice}"
            )

    def _succeeded(self, done: Done) -> bool:
        # A ReLU may hide the NaN weights of an earlier step from the last one's report.
        is_finite = find_nonfinite(_get_scalars(*done)) is None
        return is_finite and bool(self._is_finite(self._weights))

    def _name_step(self, error: Any) -> data.DataError:
        number = int(self._step.optimizer.step.numpy())
        return data.DataError(f"{error} (after step {number})")

    def _read_variables(self) -> list[tf.Tensor]:
        return [tf.identity(variable) for variable in self._variables]

    def _restore_variables(self, values: list[tf.Tensor]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)


def list_variables(
    train_step: step.Step, state: Mapping[str, tf.Module]
) -> list[tf.Variable]:
    """Returns the variables of a step's model, and then of all else in a state.

    Args:
        train_step: the training step.
        state: `get_state` of the step, or of what has more to save; the model is first.
    """
    _, *others = state.values()
    values = [variable for part in others for variable in part.variables]
    return [*train_step.adapted.variables, *values]


def _check_finite(weights: Sequence[tf.Variable]) -> tf.Tensor:
    finite = [tf.reduce_all(tf.math.is_finite(w.read_value())) for w in weights]
    return tf.reduce_all(tf.stack(finite)) if finite else tf.constant(True)


def _get_scalars(
    losses: reports.Losses, update: reports.Update, sums: reports.Sums
) -> dict[str, float]:
    report = reports.Report(*losses[:3], {}, *update, data_losses=losses.data_losses)
    scalars = report.get_scalars()
    if not math.isfinite(sums.loss):  # Of an earlier step than the last.
        scalars["loss/data"] = sums.loss
    return scalars


def find_nonfinite(scalars: Mapping[str, float]) -> tuple[str, float] | None:
    """Returns the tag of a value that isn't finite, the data loss first, and it."""
    last = "loss/regularization", "loss/total"  # Sums of the others.
    tags = sorted(scalars, key=lambda tag: (tag in last, tag != "loss/data"))
    bad = (tag for tag in tags if not math.isfinite(scalars[tag]))
    return next(((tag, scalars[tag]) for tag in bad), None)


@contextlib.contextmanager
def explain_reading() -> Iterator[None]:
    """Turns the error of an iterator into a sentence.

    Raises:
        data.DataError: a batch can't be read.
    """
    try:
        yield
    except tf.errors.OutOfRangeError:
        raise data.DataError(
            "an epoch must have all its batches, got no more: make the pipeline repeat "
            "the same number, or pass steps to Pipeline"
        ) from None
    except tf.errors.OpError as error:
        if "IteratorGetNext" not in str(error):
            raise
        lines = [line.strip() for line in str(error.message).splitlines()]
        named = [line for line in lines if re.match(r"\w+Error: ", line)]
        reason = [*named, *filter(None, lines), type(error).__name__][0][:300]
        raise data.DataError(
            f"every batch must be readable, got {reason}: check what the pipeline "
            "yields"
        ) from None


def check_weights(train_step: step.Step) -> None:
    """Checks the weights, which an update after the last report may have changed.

    Raises:
        LossError: a weight isn't finite.
    """
    adapted, number = train_step.adapted, int(train_step.optimizer.step.numpy())
    for variable in adapted.variables:
        if not np.isfinite(variable.numpy()).all():
            raise LossError(
                f"{adapted.names[id(variable)]} must be finite, got inf or nan after "
                f"step {number}: lower learning_rate or scale"
            )
