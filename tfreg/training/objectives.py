"""The data losses of a step: one, or several for the parts of targets and outputs.

    cross_entropy = tfreg.losses.sparse_softmax_cross_entropy
    objective = objectives.Objective({"class": cross_entropy}, {"class": 0.5})
    each = objective({"class": y}, {"class": logits})  # {"class": losses [batch]}
    weighted = objective.combine(each)

The trap: targets and outputs matched by their order, which is another one after a key
is added. Here keys match keys, and a key without a partner is an error.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfreg import _checks, losses
from tfreg.collections import scopes, totals


class Objective:
    """One or several data losses, and their weights in the sum that is trained on.

    The name of a loss consists of the keys and indices on the way to it, for example
    `class` or `boxes/0`; the name of a single loss is "".

    Args:
        data_loss: callable (y, outputs) -> losses `[batch, ...]`, a Keras loss, or a
            dict, list or tuple of these, also nested. Of tfreg's losses, each position
            has one. None: no loss, where a step computes its own.
        loss_weights: finite floats >= 0 by the same keys; 1.0 for those without one.

    Attributes:
        targets: name of a loss -> its kind of targets and threshold, as returned by
            `losses.find_targets`.

    Raises:
        TypeError: a loss isn't a callable.
        ValueError: there is no loss, or a weight is negative, infinite or of no loss.
    """

    def __init__(self, data_loss: Any, loss_weights: Any = None) -> None:
        self._nest = data_loss
        given = {} if data_loss is None else flatten(data_loss)
        if not given and data_loss is not None:
            raise ValueError(
                f"data_loss must have at least one loss, got {data_loss!r}: pass for "
                "example tfreg.losses.sparse_softmax_cross_entropy"
            )
        for name, loss in given.items():
            _checks.check_function(
                f"data_loss{_quote(name)}",
                loss,
                "tfreg.losses.mean_squared_error, or keras.losses.Huber()",
            )
        self.targets = {name: losses.find_targets(loss) for name, loss in given.items()}
        self._losses = {name: losses.take_each(loss) for name, loss in given.items()}
        weights = {} if loss_weights is None else flatten(loss_weights)
        unknown = [name for name in weights if name not in given]
        if unknown:
            raise ValueError(
                f"loss_weights must have the keys of data_loss, {_list(given)}, got "
                f"{_list(unknown)}: leave them out"
            )
        self._weights = dict.fromkeys(given, 1.0) | {
            name: _checks.check_float(
                f"loss_weights{_quote(name)}", weight, _checks.NONNEGATIVE
            )
            for name, weight in weights.items()
        }

    def __str__(self) -> str:
        if len(self._losses) != 1:
            return f"{len(self._losses)} losses" if self._losses else "compute_loss"
        (loss,) = flatten(self._nest).values()
        return str(getattr(loss, "__name__", type(loss).__name__))

    @property
    def names(self) -> list[str]:
        """The names of the losses, in order."""
        return list(self._losses)

    def match(self, y: Any, outputs: Any) -> dict[str, tuple[Any, Any]]:
        """Returns the targets and the outputs of each loss, by its name.

        Raises:
            ValueError: keys are missing or have no loss.
        """
        targets = _select(self._nest, y, "y")
        parts = _select(self._nest, outputs, "outputs")
        return {name: (targets[name], parts[name]) for name in self._losses}

    @scopes.do_not_convert
    def __call__(self, y: Any, outputs: Any) -> dict[str, tf.Tensor]:
        """Returns the losses per example or position, by the name of the loss.

        Args:
            y: targets, in the structure of `data_loss`.
            outputs: of the model, likewise.

        Raises:
            ValueError: keys are missing or have no loss; or a loss returns a scalar,
                the wrong rank, or another number of examples than the targets have.
        """
        if not self._losses:
            raise ValueError(
                "data_loss must be a function of y and outputs, got None: pass one, or "
                "override compute_loss"
            )
        losses = {}
        for name, (targets, predictions) in self.match(y, outputs).items():
            values = scopes.convert(self._losses[name])(targets, predictions)
            what = f"data_loss{_quote(name)}"
            losses[name] = _check_losses(what, values, targets, predictions)
        return losses

    @scopes.do_not_convert
    def combine(self, each: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the weighted sum of the losses.

        Args:
            each: the losses by their names.

        Returns:
            The losses of a single one, `[batch, ...]`; of several the sum of their
            means for each example, `[batch]`.
        """
        if len(each) == 1:
            return self._weigh(*next(iter(each.items())))
        parts = [
            totals.average_each(self._weigh(name, values))
            for name, values in each.items()
        ]
        dtype = max((part.dtype for part in parts), key=lambda dtype: dtype.size)
        return tf.add_n([tf.cast(part, dtype) for part in parts])

    def _weigh(self, name: str, values: tf.Tensor) -> tf.Tensor:
        values = tf.ragged.map_flat_values(totals.widen, values)
        weight = self._weights.get(name, 1.0)
        if weight == 1.0:
            return values
        # A loss that overflows while it has no weight must not stop the others.
        multiply = functools.partial(tf.math.multiply_no_nan, y=weight)
        return tf.ragged.map_flat_values(multiply, values)


def flatten(nest: Any) -> dict[str, Any]:
    """Returns the leaves of a dict, list or tuple by their names, such as `a/0`."""
    children = _list_children(nest)
    if children is None:
        return {"": nest}
    return {
        f"{key}/{name}" if name else str(key): leaf
        for key, child in children.items()
        for name, leaf in flatten(child).items()
    }


def _list_children(nest: Any) -> dict[Any, Any] | None:
    """Returns the children of a dict, list or tuple by key or index."""
    if isinstance(nest, Mapping):
        return dict(nest)
    return dict(enumerate(nest)) if isinstance(nest, list | tuple) else None


def _select(nest: Any, values: Any, what: str) -> dict[str, Any]:
    """Returns the values by the names of the losses in the same places of a nest."""
    children = _list_children(nest)
    if children is None:
        return {"": values}
    parts = _list_children(values)
    kind = "dict" if isinstance(nest, Mapping) else "list or tuple"
    if parts is None or isinstance(nest, Mapping) != isinstance(values, Mapping):
        raise ValueError(
            f"{what} must be a {kind} with the keys of data_loss, {_list(children)}, "
            f"got a {type(values).__name__}: give one value for each loss"
        )
    missing = [key for key in children if key not in parts]
    extra = [key for key in parts if key not in children]
    if missing or extra:
        wrong = f"without {_list(missing)}" if missing else f"also {_list(extra)}"
        raise ValueError(
            f"{what} must have the keys of data_loss, {_list(children)}, got {wrong}: "
            "give each key a loss, or leave it out"
        )
    return {
        f"{key}/{name}" if name else str(key): leaf
        for key, child in children.items()
        for name, leaf in _select(child, parts[key], f"{what}[{key!r}]").items()
    }


def _check_losses(name: str, values: Any, y: Any, outputs: Any) -> Any:
    """Returns the losses that a function returned, if they are per example."""
    values = values if tf.is_tensor(values) else tf.convert_to_tensor(values)
    if values.shape.rank == 0:
        raise ValueError(
            f"{name} must return the losses of the examples, [batch, ...], got a "
            "scalar: leave its mean out, or pass the Keras loss itself"
        )
    targets, predictions = _list_shapes(y), _list_shapes(outputs)
    ranks = [_count_axes(shape) for shape in targets + predictions]
    if values.shape.rank and _count_axes(values.shape) > max(ranks, default=math.inf):
        raise ValueError(
            f"{name} must return losses [batch, ...] of the dimensions of the targets "
            f"{_list(targets)} and outputs {_list(predictions)}, got {values.shape}: "
            "reshape one of them, so that they aren't broadcast"
        )
    batch = targets[0][:1] if targets else tf.TensorShape(None)
    if not values.shape[:1].is_compatible_with(batch):
        raise ValueError(
            f"{name} must return the losses of the {batch[0]} examples, [batch, ...], "
            f"got {values.shape}: average over other dimensions than the first"
        )
    return values


def _list_shapes(nest: Any) -> list[tf.TensorShape]:
    parts = [part for part in tf.nest.flatten(nest) if hasattr(part, "shape")]
    return [tf.TensorShape(part.shape) for part in parts]


def _count_axes(shape: tf.TensorShape) -> float:
    """Returns the number of dimensions, without those of 1 after the first."""
    if shape.rank is None:
        return math.inf
    return min(shape.rank, 1) + sum(size != 1 for size in shape[1:])


def _quote(name: str) -> str:
    return f"[{name!r}]" if name else ""


def _list(items: Any) -> str:
    shown = (str(i) if isinstance(i, tf.TensorShape) else repr(i) for i in items)
    return ", ".join(shown)


def check_own(name: str, losses: Any) -> None:
    """Checks the losses of a `compute_loss` of one's own.

    Raises:
        ValueError: they aren't per example.
    """
    if getattr(losses, "shape", None) is None or losses.shape.rank == 0:
        raise ValueError(
            f"losses{f'[{name!r}]' if name else ''} must be of the examples, "
            f"[batch, ...], got {losses!r:.60}: leave the mean out"
        )
