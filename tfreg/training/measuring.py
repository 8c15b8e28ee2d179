"""The metrics of a step: sums over the examples, of which the host computes the result.

    cross_entropy = tfreg.losses.sparse_softmax_cross_entropy
    measured = measuring.Metrics(None, objectives.Objective(cross_entropy))
    sums = measured.zeros(y, logits)
    increments = measured.update(y, logits)  # in a step: {"accuracy": (right, count)}
    sums = tf.nest.map_structure(np.add, sums, increments)
    measured.result(sums)  # {"accuracy": ...}

The trap: an AUC or R2 averaged over batches, which isn't that of all examples. A metric
is computed once, from sums that add up over batches, microbatches and replicas.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg.collections import scopes
from tfreg.training import compiling, objectives, scores

States: TypeAlias = dict[str, tuple[tf.Tensor, ...]]

_RESERVED = re.compile(
    r"steps|gradient_norm|learning_rate|loss_scale|skipped_updates"
    r"|loss/(data|regularization|total)|(loss/data|regularization)/.*"
)
_KNOWN = "accuracy, top_5_accuracy (of any number), mean_absolute_error or r2"


@dataclasses.dataclass(frozen=True)
class _Default:
    """A metric of tfreg's own, in float64.

    Attributes:
        update: (y, outputs, weights) -> sums, None where the shapes say nothing.
        result: sums -> value.
        is_asked: whether the user asked for it, so that it has to fit.
    """

    update: Callable[[Any, Any, Any], tuple[tf.Tensor, ...] | None]
    result: Callable[..., tf.Tensor]
    is_asked: bool


@dataclasses.dataclass(frozen=True)
class _Keras:
    """A Keras metric as a pure function; its variables are never assigned."""

    metric: Any

    def update(self, y: Any, outputs: Any, weights: Any) -> tuple[tf.Tensor, ...]:
        first = self.start()
        return tuple(map(tf.subtract, self.resume(first, y, outputs, weights), first))

    def start(self) -> list[tf.Tensor]:
        return list(map(_widen, self.metric.stateless_reset_state()))

    def resume(
        self, state: Sequence[Any], y: Any, outputs: Any, weights: Any
    ) -> list[tf.Tensor]:
        """Returns the state after a batch."""
        options = {} if weights is None else {"sample_weight": weights}
        # It is cast to the dtypes of the variables.
        values = self.metric.stateless_update_state(state, y, outputs, **options)
        return list(map(_widen, values))

    def build(self, y: Any, outputs: Any) -> None:
        """Creates the variables that a metric creates at its first batch."""
        with tf.init_scope():
            zeros = tf.nest.map_structure(_make_zeros, (y, outputs))
            state = self.metric.stateless_reset_state()
            self.metric.stateless_update_state(state, *zeros)

    def result(self, *sums: Any) -> Any:
        import keras

        variables = self.metric.variables
        state = [
            tf.cast(tf.cast(first, tf.float64) + tf.cast(value, tf.float64), v.dtype)
            for first, value, v in zip(self.start(), sums, variables, strict=True)
        ]
        with keras.StatelessScope(list(zip(variables, state, strict=True))):
            # A result may be a variable, whose value is the state's only here.
            return tf.nest.map_structure(tf.convert_to_tensor, self.metric.result())


class Metrics:
    """The metrics of an objective's losses, as sums that add up.

    Args:
        metrics: name -> Keras metric, or None for tfreg's metric of that name:
            accuracy, top_5_accuracy (of any number), mean_absolute_error, r2. With
            several losses, a dict of these by the name of the loss, reported as
            `class/accuracy`. Instead of a dict, None: mean_absolute_error and r2 for
            targets that are numbers, accuracy for others, where the shapes say that
            there is one.
        objective: the losses.

    Raises:
        ValueError: a name is unknown or taken.
        TypeError: a metric isn't a Keras metric.
    """

    def __init__(
        self, metrics: Mapping[Any, Any] | None, objective: objectives.Objective
    ) -> None:
        self._objective = objective
        self._metrics: dict[str, _Default | _Keras] = {}
        self._losses: dict[str, str] = {}  # The name of each metric's loss.
        for loss, asked in _split_by_loss(metrics, objective.names).items():
            targets = objective.targets[loss]
            for name, metric in _list_metrics(asked, targets[0]).items():
                full = f"{loss}/{name}" if loss else name
                if not isinstance(name, str) or not name or _RESERVED.fullmatch(full):
                    raise ValueError(
                        f"metrics must have names of their own, got {full!r}, the name "
                        "of another value: choose a different one"
                    )
                self._losses[full] = loss
                self._metrics[full] = _make_metric(full, name, metric, targets, asked)
        self._unbuilt = {n for n, m in self._metrics.items() if isinstance(m, _Keras)}

    @scopes.do_not_convert
    def update(self, y: Any, outputs: Any, weights: Any = None) -> States:
        """Returns what a batch adds to the sums of each metric.

        Args:
            y: targets `[batch, ...]`, or a nest as of the losses.
            outputs: of the model, likewise.
            weights: `[batch, ...]`, the metrics' `sample_weight`, or None.

        Returns:
            Name -> float32 or float64 tensors, which add up over batches, microbatches
            and replicas.

        Raises:
            ValueError: targets and outputs don't fit a metric.
        """
        pairs = self._objective.match(y, outputs)
        states: States = {}
        for name, metric in self._metrics.items():
            pair = pairs[self._losses[name]]
            with _explain(name, *pair):
                if name in self._unbuilt:
                    metric.build(*pair)  # type: ignore[union-attr]
                    self._unbuilt.discard(name)
                increments = metric.update(*pair, weights)
            if increments is not None:
                states[name] = increments
            elif metric.is_asked:  # type: ignore[union-attr]
                raise _refuse_shapes(name, *pair, "which it isn't defined for")
        return states

    def zeros(self, y: Any, outputs: Any, weights: Any = None) -> dict[str, tuple]:
        """Returns float64 NumPy zeros in the structure of `update`, as initial sums.

        Args:
            y: targets or their specs, as for `update`.
            outputs: likewise.
            weights: likewise.
        """
        specs = tf.nest.map_structure(_get_spec, (y, outputs, weights))
        update = compiling.trace(self.update)
        states = update.get_concrete_function(*specs).structured_outputs
        return tf.nest.map_structure(lambda state: np.zeros(state.shape), states)

    @property
    def names(self) -> list[str]:
        """The names of the metrics, of those too that the shapes say nothing of."""
        return list(self._metrics)

    @property
    def has_keras(self) -> bool:
        """Whether one is a Keras metric, which `check` tries."""
        return any(isinstance(metric, _Keras) for metric in self._metrics.values())

    @scopes.do_not_convert
    def compute(self, states: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Returns the results of the metrics: scalars, vectors, or dicts of these.

        Args:
            states: the sums of what `update` returned.
        """
        return {k: self._metrics[k].result(*sums) for k, sums in states.items()}

    def result(self, states: Mapping[str, Sequence[Any]]) -> dict[str, float]:
        """Returns the value of each metric, on the host.

        Args:
            states: the sums of what `update` returned, float64.

        Returns:
            Name -> value, NaN if nothing has a weight. The values of a vector are
            `f1/0`, `f1/1`, and those of a dict by its keys.
        """
        return to_floats(self.compute(states))

    def check(self, y: Any, outputs: Any, weights: Any = None) -> None:
        """Tries the metrics with a batch, eagerly.

        Args:
            y: targets of at least one example, as for `update`.
            outputs: likewise.
            weights: likewise.

        Raises:
            ValueError: targets, outputs or weights don't fit a metric; its result isn't
                a number, vector or dict; or the sums of two parts of the batch aren't
                those of the batch.
        """
        self.result(self.update(y, outputs, weights))
        pairs = self._objective.match(y, outputs)
        for name, metric in self._metrics.items():
            if isinstance(metric, _Keras):
                pair = pairs[self._losses[name]]
                with _explain(name, *pair):
                    adds_up = _adds_up(metric, (*pair, weights))
                if not adds_up:
                    kind = type(metric.metric).__name__
                    raise ValueError(
                        f"metrics[{name!r}] must add up over the examples, got {kind}, "
                        "of which the state isn't a sum: write one whose variables are "
                        "sums over the examples, and divide them in its result()"
                    )


def to_floats(results: Mapping[str, Any]) -> dict[str, float]:
    """Returns the results of `Metrics.compute` as floats, one for each name.

    Raises:
        ValueError: a result is a matrix.
    """
    flat: dict[str, float] = {}
    for name, values in objectives.flatten(results).items():
        flat |= _flatten_vector(name, np.asarray(values))
    return flat


def _split_by_loss(metrics: Any, losses: list[str]) -> dict[str, Any]:
    """Returns the metrics asked for of each loss, None for the defaults."""
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(
            f"metrics must be a dict, got {metrics!r}: write for example "
            '{"auc": keras.metrics.AUC(from_logits=True)}'
        )
    if metrics is None or losses == [""]:
        return dict.fromkeys(losses, metrics)
    asked = {str(key): value for key, value in metrics.items()}
    known = ", ".join(map(repr, losses))
    for key, value in asked.items():
        if key not in losses or not (value is None or isinstance(value, Mapping)):
            raise ValueError(
                f"metrics must be a dict for each of the losses {known}, got {value!r} "
                f"for {key!r}: write {{{losses[0]!r}: {{'accuracy': None}}}}"
            )
    return {loss: asked.get(loss) for loss in losses}


def _list_metrics(asked: Any, targets: str | None) -> Mapping[str, Any]:
    if asked is not None:
        return asked
    numbers = targets == "numbers"
    names = ["mean_absolute_error", "r2"] if numbers else ["accuracy"]
    return dict.fromkeys(names)


def _make_metric(
    full: str, name: str, metric: Any, targets: tuple[str | None, float], asked: Any
) -> _Default | _Keras:
    if metric is not None:
        import keras

        if not isinstance(metric, keras.metrics.Metric):
            raise TypeError(
                f"metrics[{full!r}] must be a Keras metric or None, got {metric!r}: "
                "write for example keras.metrics.AUC(from_logits=True)"
            )
        return _Keras(metric)
    is_asked = asked is not None
    if name == "mean_absolute_error":
        return _Default(scores.add_absolute_errors, scores.divide, is_asked)
    if name == "r2":
        return _Default(scores.add_squares, scores.solve_r2, is_asked)
    found = re.fullmatch(r"(?:top_([1-9]\d*)_)?accuracy", name)
    if not found:
        raise ValueError(
            f"metrics[{full!r}] must be a Keras metric, got None: or name it {_KNOWN}"
        )
    k = int(found[1] or 1)

    def add(y: Any, outputs: Any, weights: Any) -> tuple[tf.Tensor, ...] | None:
        right = scores.compare(y, outputs, *targets, k)
        return None if right is None else scores.add_up(*right, weights)

    return _Default(add, scores.divide, is_asked)


def _adds_up(metric: _Keras, batch: tuple) -> bool:
    """Tells whether the sums of a batch are those of its halves, in any order."""
    size = len(tf.nest.flatten(batch)[0])
    middle = (size + 1) // 2
    first, second = _take(batch, slice(middle)), _take(batch, slice(middle, size))
    whole = metric.update(*batch)
    if size == 1:
        second, whole = batch, metric.update(*_repeat(batch))
    halves = [metric.update(*half) for half in (first, second)]
    start = metric.start()
    passed = metric.resume(list(map(tf.add, start, halves[0])), *second)
    for a, b, both, last, initial in zip(*halves, whole, passed, start, strict=True):
        a, b = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
        # Float32 sums of a batch.
        close = {"rtol": 1e-3, "atol": 1e-4 * (np.abs(a) + np.abs(b)).max()}
        if not np.allclose(both, a + b, **close):
            return False
        if not np.allclose(last.numpy() - initial.numpy(), a + b, **close):
            return False
    return True


def _take(batch: Any, rows: slice) -> Any:
    return tf.nest.map_structure(
        lambda part: None if part is None else part[rows], batch
    )


def _repeat(batch: Any) -> Any:
    return tf.nest.map_structure(
        lambda part: None if part is None else tf.concat([part, part], 0), batch
    )


def _widen(value: Any) -> tf.Tensor:
    value = tf.convert_to_tensor(value)
    wide = value.dtype in (tf.float32, tf.float64)
    return value if wide else tf.cast(value, tf.float64)


def _get_spec(value: Any) -> Any:
    if value is None or isinstance(value, tf.TypeSpec):
        return value
    return tf.type_spec_from_value(value)


def _make_zeros(value: Any) -> tf.Tensor:
    """Returns one example of zeros of a tensor's shape; 1 for an unknown dimension."""
    shape = [1, *(size or 1 for size in value.shape[1:])]
    return tf.zeros(shape, value.dtype)


def _flatten_vector(name: str, value: np.ndarray) -> dict[str, float]:
    if value.ndim > 1:
        raise ValueError(
            f"metrics[{name!r}] must have a number or vector as its result, got shape "
            f"{value.shape}: average it, for example by average='macro'"
        )
    if value.ndim == 1:
        return {f"{name}/{i}": float(each) for i, each in enumerate(value)}
    return {name: float(value)}


@contextlib.contextmanager
def _explain(name: str, y: Any, outputs: Any) -> Iterator[None]:
    """Names the metric and the shapes in an error of Keras."""
    try:
        yield
    except (TypeError, ValueError, IndexError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _refuse_shapes(name, y, outputs, reason[0]) from error


def _refuse_shapes(name: str, y: Any, outputs: Any, reason: str) -> ValueError:
    shapes = [
        tf.nest.map_structure(lambda part: str(getattr(part, "shape", part)), nest)
        for nest in (y, outputs)
    ]
    return ValueError(
        f"metrics[{name!r}] must fit targets {shapes[0]} and outputs {shapes[1]}, got "
        f"{reason}: choose another metric or leave it out"
    )
