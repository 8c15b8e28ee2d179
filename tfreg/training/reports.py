"""The report of a step as typed values, and the sums that an epoch's means come from.

    report = trained.train(0)
    report.loss, report.penalties, report.total, report.metrics["accuracy"]
    report["loss/total"], report.get_scalars()  # by the tags of TensorBoard

The trap: a dictionary whose keys are spelled out in many modules, and one that is
misspelled. A report has fields, and its tags are defined in one place.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg.collections import scopes

Scalar: TypeAlias = float | tf.Tensor
States: TypeAlias = dict[str, tuple[Any, ...]]


class Sums(NamedTuple):
    """Sums over the examples of several batches; those of replicas add up.

    Attributes:
        count: number of losses averaged: of examples or, with weights, of those whose
            weight isn't 0.
        examples: number of examples.
        loss: of the data losses.
        data_losses: name of one of several data losses -> its sum.
        states: name of a metric -> its state, which is a sum as well.
        penalties: name of the penalty -> sum over the examples; {} in training.
    """

    count: Scalar  # type: ignore[assignment]  # tuple.count is not used
    examples: Scalar
    loss: Scalar
    data_losses: dict[str, Scalar]
    states: States
    penalties: dict[str, Scalar]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, which `from_json` reads."""
        return tf.nest.map_structure(
            lambda value: np.asarray(value, np.float64).tolist(), self._asdict()
        ) | {"states": {k: [_to_list(v) for v in s] for k, s in self.states.items()}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Sums":
        """Returns the sums of `to_json`, as float64."""
        states = {
            name: tuple(np.asarray(value, np.float64) for value in state)
            for name, state in values["states"].items()
        }
        return cls(**(values | {"states": states}))


class Losses(NamedTuple):
    """The losses of a forward pass, in a replica its share, which add up to the total.

    Attributes:
        loss: of the data, without penalties.
        regularization: sum of the penalties.
        penalties: name of the penalty -> value.
        data_losses: name of one of several data losses -> value.
        sums: over the examples.
    """

    loss: Scalar
    regularization: Scalar
    penalties: dict[str, Scalar]
    data_losses: dict[str, Scalar]
    sums: Sums

    @property
    def total(self) -> Scalar:
        """The loss with the penalties."""
        return self.loss + self.regularization


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
        data_losses: name -> value, of each of several data losses.
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
    data_losses: dict[str, Scalar] = {}

    @property
    def total(self) -> Scalar:
        """The loss with the penalties, which training minimizes."""
        return self.loss + self.regularization

    def get_scalars(self) -> dict[str, Scalar]:
        """Returns tag -> value for TensorBoard, without those that are None."""
        update = {
            "gradient_norm": self.gradient_norm,
            "learning_rate": self.learning_rate,
            "loss_scale": self.loss_scale,
            "skipped_updates": self.skipped_updates,
        }
        return {
            **{f"regularization/{name}": v for name, v in self.penalties.items()},
            **{f"loss/data/{name}": v for name, v in self.data_losses.items()},
            "loss/data": self.loss,
            "loss/regularization": self.regularization,
            "loss/total": self.total,
            **self.metrics,
            **{tag: value for tag, value in update.items() if value is not None},
        }

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


def _to_list(value: Any) -> Any:
    return np.asarray(value, np.float64).tolist()


def to_numpy(values: Any) -> Any:
    """Returns a structure with its scalars as floats, other tensors as arrays."""
    return tf.nest.map_structure(_to_numpy, values)


def _to_numpy(value: Any) -> Any:
    if value is None:
        return None
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array


@scopes.do_not_convert
def add(sums: Any, values: Any) -> Any:
    """Adds values to float64 sums of the same structure."""
    return tf.nest.map_structure(lambda a, b: a + tf.cast(b, tf.float64), sums, values)


@scopes.do_not_convert
def add_losses(sums: Sums, losses: Losses) -> Sums:
    """Adds what a step of training reports."""
    return add(sums, losses.sums._replace(penalties={}))


def to_tensors(sums: Sums) -> Sums:
    """Returns float64 tensors, which a tf.function isn't traced again for."""
    return tf.nest.map_structure(lambda v: tf.constant(v, tf.float64), sums)


@scopes.do_not_convert
def make_zeros(values: Any) -> Any:
    """Returns float64 zeros in the structure and the shapes of values."""
    return tf.nest.map_structure(lambda v: np.zeros(np.shape(v), np.float64), values)


def divide(value: Scalar, count: Scalar) -> Scalar:
    """Returns a mean, 0.0 over no examples."""
    return value / count if count else 0.0


def average(sums: Sums, metrics: dict[str, float]) -> Report:
    """Returns the means over the examples, and their metrics, as a report of floats."""

    def divide_each(values: dict, count: Any) -> dict:
        return {name: divide(value, count) for name, value in values.items()}

    penalties = divide_each(sums.penalties, sums.examples)
    return Report(
        divide(sums.loss, sums.count),
        float(sum(penalties.values())),
        penalties,
        drop_undefined(metrics),
        data_losses=divide_each(sums.data_losses, sums.count),
    )


def drop_undefined(metrics: dict[str, float]) -> dict[str, float]:
    """Returns the metrics without those that aren't defined, NaN."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}
