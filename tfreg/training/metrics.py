"""The report of a step as typed values, and the metrics.

    report = trained.train(0)
    report.loss, report.penalties, report.total, report.metrics["accuracy"]
    report["loss/total"], report.get_scalars()  # by the tags of TensorBoard

The trap: a dictionary whose keys are spelled out in many modules, and one that is
misspelled. A report has fields, and its tags are defined in one place.
"""

import functools
import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg.collections import scopes, totals

Scalar: TypeAlias = float | tf.Tensor


class Means(NamedTuple):
    """The values that an epoch averages over its examples.

    Attributes:
        loss: of the data.
        metrics: name -> value.
    """

    loss: Scalar
    metrics: dict[str, Scalar]

    def get_scalars(self) -> dict[str, Scalar]:
        """Returns tag -> value."""
        return {"loss/data": self.loss, **self.metrics}

    @classmethod
    def from_scalars(cls, scalars: dict[str, float]) -> "Means":
        """Returns the means for the tags and values of `get_scalars`."""
        metrics = {tag: value for tag, value in scalars.items() if tag != "loss/data"}
        return cls(scalars["loss/data"], metrics)


class Losses(NamedTuple):
    """The losses of a forward pass, in a replica its share, which add up to the total.

    Attributes:
        loss: of the data, without penalties.
        regularization: sum of the penalties.
        penalties: name of the penalty -> value.
        metrics: name -> value; these are shares, too.
    """

    loss: Scalar
    regularization: Scalar
    penalties: dict[str, Scalar]
    metrics: dict[str, Scalar]

    @property
    def total(self) -> Scalar:
        """The loss with the penalties."""
        return self.loss + self.regularization

    @property
    def means(self) -> Means:
        """The values that an epoch averages over its examples."""
        return Means(self.loss, self.metrics)

    def get_scalars(self) -> dict[str, Scalar]:
        """Returns tag -> value."""
        return {
            **{f"regularization/{name}": v for name, v in self.penalties.items()},
            "loss/data": self.loss,
            "loss/regularization": self.regularization,
            "loss/total": self.total,
            **self.metrics,
        }


class Update(NamedTuple):
    """The values of an update.

    Attributes:
        gradient_norm: global norm of the gradients, before clipping; 0 for an update
            that overflowed in float16 and was skipped.
        learning_rate: of the update.
        loss_scale: after the update; None unless in float16.
        skipped_updates: number of skipped updates so far; None unless in float16.
    """

    gradient_norm: Scalar
    learning_rate: Scalar
    loss_scale: Scalar | None = None
    skipped_updates: Scalar | None = None


class Report(NamedTuple):
    """The report of a step, an epoch or an evaluation: tensors in a graph, or floats.

    `report[tag]` and `tag in report` take TensorBoard's tags, and "steps".

    Attributes:
        loss: of the data, without penalties.
        regularization: sum of the penalties.
        penalties: name of the penalty -> value.
        metrics: name -> value, such as accuracy for classes.
        gradient_norm: as in `Update`; None for an evaluation.
        learning_rate: as in `Update`; None for an evaluation.
        loss_scale: as in `Update`; None for an evaluation.
        skipped_updates: as in `Update`; None for an evaluation.
        num_steps: steps of the epoch so far; 0 unless a Loop trains.
    """

    loss: Scalar
    regularization: Scalar
    penalties: dict[str, Scalar]
    metrics: dict[str, Scalar]
    gradient_norm: Scalar | None = None
    learning_rate: Scalar | None = None
    loss_scale: Scalar | None = None
    skipped_updates: Scalar | None = None
    num_steps: int = 0

    @property
    def losses(self) -> Losses:
        """The losses of the forward pass."""
        return Losses(self.loss, self.regularization, self.penalties, self.metrics)

    @property
    def total(self) -> Scalar:
        """The loss with the penalties, which training minimizes."""
        return self.losses.total

    def get_scalars(self) -> dict[str, Scalar]:
        """Returns tag -> value for TensorBoard, without those that are None."""
        update = {
            "gradient_norm": self.gradient_norm,
            "learning_rate": self.learning_rate,
            "loss_scale": self.loss_scale,
            "skipped_updates": self.skipped_updates,
        }
        reported = {tag: value for tag, value in update.items() if value is not None}
        return self.losses.get_scalars() | reported

    def __getitem__(self, tag: str | int) -> Scalar:  # type: ignore[override]
        """Returns the value of a tag.

        Raises:
            KeyError: the report doesn't have the tag.
        """
        if not isinstance(tag, str):
            return tuple.__getitem__(self, tag)
        return self.num_steps if tag == "steps" else self.get_scalars()[tag]

    def __contains__(self, tag: object) -> bool:
        return tag == "steps" or tag in self.get_scalars()


def to_floats(report: Any) -> Any:
    """Returns a report or a part of it with its tensors as floats."""
    return tf.nest.map_structure(lambda v: None if v is None else float(v), report)


@scopes.do_not_convert
def add_weighted(sums: Any, values: Any, weight: int) -> Any:
    """Adds `weight` times the values to float64 sums of the same structure."""
    add = functools.partial(_add_weighted, weight=weight)
    return tf.nest.map_structure(add, sums, values)


def _add_weighted(total: tf.Tensor, value: tf.Tensor, weight: int) -> tf.Tensor:
    return total + weight * tf.cast(value, tf.float64)


def divide(sums: Any, divisor: float) -> Any:
    """Divides every value of a structure by a number."""
    return tf.nest.map_structure(lambda value: value / divisor, sums)


@scopes.do_not_convert
def make_zeros(values: Any) -> Any:
    """Returns float64 zeros in the structure of values, as initial sums."""
    return tf.nest.map_structure(lambda _: tf.zeros([], tf.float64), values)


def drop_undefined(report: "Report") -> "Report":
    """Returns a report of floats without the metrics that aren't defined, NaN."""
    metrics = {k: v for k, v in report.metrics.items() if not math.isnan(v)}
    return report._replace(metrics=metrics)


@scopes.do_not_convert
def scale_pixels(x: tf.Tensor, pixels: bool) -> tf.Tensor:
    """Returns uint8 pixels as float32 in [0, 1], where x are pixels."""
    return tf.cast(x, tf.float32) / 255.0 if pixels else x


@scopes.do_not_convert
def measure_accuracy(
    y: Any, outputs: Any, targets: str | None = None, threshold: float = 0.0
) -> tf.Tensor | None:
    """Returns the accuracy of each example, `[batch]`.

    Args:
        y: targets: integer classes `[batch, d1, ..., dn]`, or with a last dimension of
            1; one-hot `[batch, ..., classes]`; or 0 and 1 in the shape of the outputs.
        outputs: logits or probabilities `[batch, d1, ..., dn, classes]`, or one for
            each of the targets.
        targets: what y are, `classes`, `one-hot`, `binary` or `numbers`; None: what
            their dtype and shape say.
        threshold: of one output, above which it says 1; 0 for a logit.

    Returns:
        A float64, in which an example counts by its fraction of right positions; a
        class below 0 masks its position. NaN where what may be one-hot isn't; None
        where the shapes say that there is no accuracy.
    """
    y = tf.convert_to_tensor(y) if isinstance(y, np.ndarray) else y
    known = tf.is_tensor(y) and tf.is_tensor(outputs) and targets != "numbers"
    if not known or None in (y.shape.rank, outputs.shape.rank) or not y.shape.rank:
        return None
    whole = y.dtype.is_integer or y.dtype.is_bool
    y, outputs = _squeeze(y), _squeeze(outputs)
    if outputs.shape.rank == y.shape.rank and _fit(y.shape, outputs.shape):
        if targets == "binary" or (
            targets != "one-hot" and whole and y.shape.rank == 1
        ):
            return _average((outputs > threshold) == (tf.cast(y, outputs.dtype) > 0.5))
        if targets == "one-hot" or (targets is None and y.shape.rank == 2):
            return _compare_one_hot(y, outputs)
        return None
    if outputs.shape.rank != y.shape.rank + 1 or not _fit(y.shape, outputs.shape[:-1]):
        return None
    if not whole or targets == "binary":
        return None
    classes = tf.argmax(outputs, -1, output_type=tf.int32)
    y = tf.cast(y, tf.int32)
    return _average(tf.equal(classes, y), y >= 0 if y.shape.rank > 1 else None)


def _squeeze(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a tensor without a last dimension of 1, which says nothing."""
    is_column = tensor.shape.rank > 1 and tensor.shape[-1] == 1
    return tf.squeeze(tensor, -1) if is_column else tensor


def _fit(shape: tf.TensorShape, other: tf.TensorShape) -> bool:
    """Tells whether shapes are equal, but for the batch for certain."""
    return shape.is_compatible_with(other) and (
        shape[1:].is_fully_defined() and other[1:].is_fully_defined()
    )


def _average(correct: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    axes = list(range(1, correct.shape.rank))
    correct = tf.cast(correct, tf.float64)
    if mask is None:
        return tf.reduce_mean(correct, axes)
    mask = tf.cast(mask, tf.float64)
    total = tf.reduce_sum(correct * mask, axes)
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask, axes))


def _compare_one_hot(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    y = tf.cast(y, outputs.dtype)
    correct = tf.equal(tf.argmax(y, -1), tf.argmax(outputs, -1))
    is_one_hot = tf.reduce_all((y == 0) | (y == 1)) & tf.reduce_all(
        tf.reduce_sum(y, -1) == 1
    )
    undefined = tf.constant(math.nan, tf.float64)
    return tf.where(is_one_hot, _average(correct), undefined)


@scopes.do_not_convert
def measure(accuracy: tf.Tensor | None, parts: totals.Parts) -> Losses:
    """Returns losses and metrics of a forward pass.

    Args:
        accuracy: of each example, `[batch]`, or None.
        parts: of the total loss.
    """
    penalties = parts.penalties
    regularization = tf.add_n([tf.zeros_like(parts.data), *penalties.values()])
    metrics = {}
    if accuracy is not None:
        # In float64, so that 936 of 1,000 is 0.936.
        num_examples = tf.cast(parts.num_examples, tf.float64)
        total = tf.reduce_sum(accuracy)
        metrics["accuracy"] = tf.math.divide_no_nan(total, num_examples)
    return Losses(parts.data, regularization, penalties, metrics)
