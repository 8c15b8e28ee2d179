"""What a step reports, as typed values, and what is measured beside the losses.

    report = trained.train(0)
    report.loss, report.penalties, report.total, report.metrics["accuracy"]
    report["loss/total"], report.get_scalars()  # by the tags of TensorBoard

The trap: a dictionary whose keys every reader has to know, and a misspelt one that is
found after hours. The fields stand here, and the tags in one function.
"""

import functools
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from tfreg.collections import scopes, totals

Scalar: TypeAlias = float | tf.Tensor


class Means(NamedTuple):
    """What an epoch reports as means over its examples.

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
        """Returns the means with these tags, which `get_scalars` gave."""
        metrics = {tag: value for tag, value in scalars.items() if tag != "loss/data"}
        return cls(scalars["loss/data"], metrics)


class Losses(NamedTuple):
    """What a forward pass reports; all but the metrics add up over replicas.

    Attributes:
        loss: of the data, without penalties.
        regularization: sum of the penalties.
        penalties: name of the penalty -> value.
        metrics: name -> value; those add up, too.
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
        """What an epoch averages over its examples."""
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
    """What an update reports.

    Attributes:
        gradient_norm: of all gradients together, before clipping; 0 for an update that
            overflowed in float16 and was skipped.
        learning_rate: of the update.
        loss_scale: after the update; None but in float16.
        skipped_updates: how many have overflowed so far; None but in float16.
    """

    gradient_norm: Scalar
    learning_rate: Scalar
    loss_scale: Scalar | None = None
    skipped_updates: Scalar | None = None


class Report(NamedTuple):
    """What a step, an epoch or an evaluation reports: tensors in a graph, else floats.

    `report[tag]` and `tag in report` take TensorBoard's tags, and "steps".

    Attributes:
        loss: of the data, without penalties.
        regularization: sum of the penalties.
        penalties: name of the penalty -> value.
        metrics: name -> value, such as accuracy where the targets are classes.
        gradient_norm, learning_rate, loss_scale, skipped_updates: as in `Update`; None
            for an evaluation.
        num_steps: steps of the epoch so far; 0 but from a Loop that trains.
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
        """What the forward pass reports."""
        return Losses(self.loss, self.regularization, self.penalties, self.metrics)

    @property
    def total(self) -> Scalar:
        """The loss with the penalties, which training minimizes."""
        return self.losses.total

    def get_scalars(self) -> dict[str, Scalar]:
        """Returns tag -> value for TensorBoard, of what is reported."""
        update = {
            "gradient_norm": self.gradient_norm,
            "learning_rate": self.learning_rate,
            "loss_scale": self.loss_scale,
            "skipped_updates": self.skipped_updates,
        }
        reported = {tag: value for tag, value in update.items() if value is not None}
        return self.losses.get_scalars() | reported

    def __getitem__(self, tag: str | int) -> Scalar:  # type: ignore[override]
        """Returns the value of a tag; KeyError where it isn't reported."""
        if not isinstance(tag, str):
            return tuple.__getitem__(self, tag)
        return self.num_steps if tag == "steps" else self.get_scalars()[tag]

    def __contains__(self, tag: object) -> bool:
        return tag == "steps" or tag in self.get_scalars()


def to_floats(report: Any) -> Any:
    """Returns any of these values with floats for its tensors."""
    return tf.nest.map_structure(lambda v: None if v is None else float(v), report)


@scopes.do_not_convert
def add_weighted(sums: Any, values: Any, weight: int) -> Any:
    """Returns float64 sums with `weight` times the values more, as structures."""
    add = functools.partial(_add_weighted, weight=weight)
    return tf.nest.map_structure(add, sums, values)


def _add_weighted(total: tf.Tensor, value: tf.Tensor, weight: int) -> tf.Tensor:
    return total + weight * tf.cast(value, tf.float64)


def divide(sums: Any, by: float) -> Any:
    """Returns these values divided by a number."""
    return tf.nest.map_structure(lambda value: value / by, sums)


def make_zeros(values: Any) -> Any:
    """Returns float64 zeros in the structure of values, to begin sums with."""
    return tf.nest.map_structure(lambda _: tf.zeros([], tf.float64), values)


@scopes.do_not_convert
def scale_pixels(x: tf.Tensor) -> tf.Tensor:
    """Returns uint8 pixels as float32 in [0, 1], anything else as it is."""
    return tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x


def count_correct(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor | None:
    """Returns for how many examples the largest logit is the class, a float32.

    Args:
        y: integer classes `[batch, d1, ..., dn]`.
        outputs: logits `[batch, d1, ..., dn, classes]`.

    Returns:
        A scalar, in which an example counts by its fraction of correct classes; or None
        where the targets aren't classes.
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
        # In float64, so that 936 of 1,000 are 0.936.
        num_examples = tf.cast(parts.num_examples, tf.float64)
        correct = tf.cast(correct, tf.float64)
        metrics["accuracy"] = tf.math.divide_no_nan(correct, num_examples)
    return Losses(parts.data, regularization, penalties, metrics)
