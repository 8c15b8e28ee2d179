"""The report of a step as typed values, and the metrics.

    report = loop.train(0)
    report.loss, report.penalties, report.total, report.metrics["accuracy"]
    report["loss/total"], report.get_scalars()  # by the tags of TensorBoard

The trap: a dictionary whose keys are spelled out in many modules, and one that is
misspelled. A report has fields, and its tags are defined in one place.
"""

import functools
from typing import Any, NamedTuple, TypeAlias

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


def make_zeros(values: Any) -> Any:
    """Returns float64 zeros in the structure of values, as initial sums."""
    return tf.nest.map_structure(lambda _: tf.zeros([], tf.float64), values)


@scopes.do_not_convert
def scale_pixels(x: tf.Tensor) -> tf.Tensor:
    """Returns uint8 pixels as float32 in [0, 1], and other inputs unchanged."""
    return tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x


def count_correct(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor | None:
    """Returns the number of examples whose largest logit is the class.

    Args:
        y: integer classes `[batch, d1, ..., dn]`.
        outputs: logits `[batch, d1, ..., dn, classes]`.

    Returns:
        A float32 scalar, the sum over the examples of their fraction of correct
        classes; None if the targets aren't classes.
    """
    if not y.dtype.is_integer or outputs.shape.rank != y.shape.rank + 1:
        return None
    classes = tf.argmax(outputs, -1, output_type=tf.int32)
    correct = tf.cast(tf.equal(classes, tf.cast(y, tf.int32)), tf.float32)
    return tf.reduce_sum(tf.reduce_mean(correct, list(range(1, y.shape.rank))))


@scopes.do_not_convert
def measure(y: tf.Tensor, outputs: tf.Tensor, parts: totals.Parts) -> Losses:
    """Returns losses and metrics of a forward pass.

    Args:
        y: targets `[batch, ...]`.
        outputs: of the model, `[batch, ...]`.
        parts: of the total loss.
    """
    penalties = parts.penalties
    regularization = tf.add_n([tf.zeros_like(parts.data), *penalties.values()])
    metrics = {}
    correct = count_correct(y, outputs)
    if correct is not None:
        # In float64, so that 936 of 1,000 is 0.936.
        num_examples = tf.cast(parts.num_examples, tf.float64)
        correct = tf.cast(correct, tf.float64)
        metrics["accuracy"] = tf.math.divide_no_nan(correct, num_examples)
    return Losses(parts.data, regularization, penalties, metrics)
