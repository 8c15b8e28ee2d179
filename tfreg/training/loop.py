"""Many steps in one compiled graph, and evaluation of every example.

    train = tfreg.Step(model, tfreg.losses.sparse_softmax_cross_entropy, optimizer)
    loop = tfreg.Loop(train, dataset.train, batch_size=32, seed=0)
    for epoch in range(10):
        print(loop.train(epoch).total, loop.evaluate(dataset.test).metrics["accuracy"])

The traps: a Python call per step, which costs more than the step; a last batch that is
dropped; `tf.range` under XLA, which compiles again for every start.
"""

import math
import operator
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import _checks, data
from tfreg.collections import scopes
from tfreg.training import metrics, replicas, step

EVALUATION_BATCH = 1000


class LossError(ArithmeticError):
    """A loss or a gradient isn't finite; scripts end with exit status 5."""


class Loop:
    """Trains on one data set, and evaluates on any.

    The order of the examples is a function of (seed, epoch). Every example is used once
    per epoch: the last batch may be smaller. On one device many steps are one XLA
    program; on several devices each step sums the gradients between two XLA programs.

    Args:
        train_step: the training step. A model without variables is called, to create
            them.
        split: the examples to train on.
        batch_size: examples per step, of all replicas; at most the whole split is used.
        seed: seed of the order of the examples.
        steps_per_call: largest number of steps in one call of the compiled graph.
            Between the calls Python can read the report, stop or save.
        device_bytes: larger inputs are streamed by a tf.data pipeline, in blocks of
            `steps_per_call` batches; smaller ones are kept on the device.
        strategy: the strategy to train with, in whose scope model and optimizer were
            created; None: the current one.

    Raises:
        ValueError: a size isn't a positive int, a seed isn't from 0 to 2**64 - 1, or
            the split has no examples.
        TypeError: `split` isn't a Split.
    """

    def __init__(
        self,
        train_step: step.Step,
        split: data.Split,
        batch_size: int = 32,
        seed: int = 0,
        steps_per_call: int = 500,
        device_bytes: int = 2**30,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        batch_size = _checks.check_int("batch_size", batch_size)
        steps_per_call = _checks.check_int("steps_per_call", steps_per_call)
        data.permute(_count(split), seed, 0)  # Checks the seed now, not in `train`.
        self.step = train_step
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self.steps_per_call = steps_per_call
        self.seconds = 0.0  # Time in the steps of the last epoch.
        self.device_bytes = device_bytes
        self.strategy = strategy or tf.distribute.get_strategy()
        self._on_device: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._on_replicas: tuple | None = None
        self._trained: list[tf.Variable] = []
        self._zeros = self._build()
        self.sums = self._zeros  # Sums over the examples of the epoch so far.
        self._refresh()

    def _build(self) -> metrics.Means:
        """Creates all variables; returns zeros in the structure of an epoch's means."""
        x, y = self.split.x, self.split.y
        specs = [tf.TensorSpec([None, *v.shape[1:]], v.dtype) for v in (x, y)]

        def evaluate(x: tf.Tensor, y: tf.Tensor) -> metrics.Losses:
            return self.step.evaluate(self._feed(x), y)

        with self.strategy.scope():
            forward = tf.function(evaluate).get_concrete_function(*specs)
        names = forward.structured_outputs.metrics
        return metrics.Means(0.0, dict.fromkeys(names, 0.0))

    def _refresh(self) -> None:
        """Makes the compiled functions anew where layers were frozen or unfrozen."""
        trainable = list(self.step.model.trainable_variables)
        if list(map(id, trainable)) == list(map(id, self._trained)):
            return
        self._trained = trainable
        with self.strategy.scope():
            self.step.optimizer.build(trainable)
        shared = replicas.SharedSteps(self.step, self.strategy, self._zeros, self._feed)
        alone = self.strategy.num_replicas_in_sync == 1
        self._compiled = tf.function(self._run_steps, jit_compile=True)
        self._steps = tf.function(self._run_alone if alone else shared)
        self._evaluation = tf.function(self._run_evaluation, jit_compile=True)

    @scopes.do_not_convert
    def _feed(self, x: tf.Tensor) -> tf.Tensor:
        """Returns a batch of inputs as the model takes it."""
        return metrics.scale_pixels(x, self.split.pixels)

    def restart(self, split: data.Split, seed: int) -> None:
        """Changes the examples and their order, without compiling again.

        Args:
            split: the same number of examples, of the same shapes.
            seed: seed of the order of the examples.

        Raises:
            ValueError: examples of other shapes, or a seed out of range.
        """
        shapes = [(v.x.shape, v.y.shape, v.pixels) for v in (split, self.split)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"split must have the shapes {shapes[1]}, got {shapes[0]}: make a Loop"
            )
        data.permute(len(split), seed, 0)
        if split is not self.split:
            self._on_replicas = None
        self.split, self.seed = split, seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch, including a smaller last one."""
        return -(-len(self.split) // self.batch_size)

    def train(self, epoch: int) -> metrics.Report:
        """Trains for an epoch and returns its report; see `iterate`."""
        return list(self.iterate(epoch))[-1]

    def iterate(
        self, epoch: int, steps: int = 0, sums: metrics.Means | None = None
    ) -> Iterator[metrics.Report]:
        """Trains for an epoch, and yields a report after each call of the graph.

        Args:
            epoch: counted from 0; determines the order of the examples.
            steps: number of steps of the epoch that are trained already.
            sums: `self.sums` after those steps.

        Yields:
            A report of floats: loss and metrics are means over the epoch's examples so
            far; the penalties and the update's values are those of the last step.

        Raises:
            LossError: a step's loss or gradient isn't finite; the model is in the state
                before that step.
        """
        self._refresh()
        self.sums = sums or self._zeros
        self.seconds = 0.0
        num_done = 0
        for *arrays, start, stop, size in self._get_calls(epoch):
            first = max(start, stop - max(num_done + stop - start - steps, 0))
            num_done += stop - start
            if first == stop:
                continue
            began = time.perf_counter()
            report, sums = self._call_safely(arrays, first, stop, size)
            self.seconds += time.perf_counter() - began
            num_examples = min(num_done * self.batch_size, len(self.split))
            self.sums = tf.nest.map_structure(operator.add, self.sums, sums)
            means = metrics.divide(self.sums, num_examples)
            report = report._replace(**means._asdict(), num_steps=num_done)
            yield metrics.drop_undefined(report)

    def get_state(self) -> dict[str, tf.Module]:
        """Returns the objects to save in a checkpoint, by name."""
        state = {"model": self.step.model, "optimizer": self.step.optimizer}
        if self.step.loss_scale is not None:
            state["loss_scale"] = self.step.loss_scale
        return state

    def _call(
        self, arrays: list, start: int, stop: int, size: int
    ) -> tuple[metrics.Report, metrics.Means]:
        counters = tf.constant(start), tf.constant(stop)
        return metrics.to_floats(self._steps(*arrays, *counters, size))

    def _call_safely(
        self, arrays: list, start: int, stop: int, size: int
    ) -> tuple[metrics.Report, metrics.Means]:
        """Runs steps; undoes those from the first that isn't finite on, and raises.

        Raises:
            LossError: names the step.
        """
        # Checked once per call: a norm at every step would cost about 5% of its time.
        before = self._copy_variables()
        report, sums = self._call(arrays, start, stop, size)
        tag = _find_nonfinite(report, sums)
        if tag is None:
            return report, sums
        self._restore_variables(before)
        for i in range(start, stop):
            before = self._copy_variables()
            report, sums = self._call(arrays, i, i + 1, size)
            tag = _find_nonfinite(report, sums) or tag
            if _find_nonfinite(report, sums) is not None:
                break
        self._restore_variables(before)
        number = int(self.step.optimizer.step.numpy()) + 1
        raise LossError(
            f"{tag} must be finite, got {report[tag]} at step {number}, which is not "
            "applied: lower learning_rate or scale, or check the range of the labels"
        )

    def _get_variables(self) -> list[tf.Variable]:
        parts = self.get_state().values()
        # A model may be any object with trainable variables.
        return [
            v
            for part in parts
            for v in getattr(part, "variables", None) or part.trainable_variables
        ]

    def _copy_variables(self) -> list[tf.Tensor]:
        return [tf.identity(variable) for variable in self._get_variables()]

    def _restore_variables(self, values: list[tf.Tensor]) -> None:
        for variable, value in zip(self._get_variables(), values, strict=True):
            variable.assign(value)

    def _get_calls(self, epoch: int) -> Iterator[tuple]:
        """Yields inputs, targets, an order, its first and last step, the batch size."""
        order = data.permute(len(self.split), self.seed, epoch)
        arrays = self._put_on_device(self.split)
        blocks: Iterable[tuple]
        if arrays is not None:
            self._on_replicas = self._on_replicas or self._copy_to_replicas(*arrays)
            blocks = [(*self._on_replicas, order)]
        else:
            stream = data.stream(
                self.split, order, self.batch_size * self.steps_per_call
            )
            blocks = (
                (*self._copy_to_replicas(x, y), np.arange(len(y), dtype=np.int32))
                for x, y in stream
            )
        for x, y, rows in blocks:
            num_full, rest = divmod(rows.size, self.batch_size)
            (order,) = self._copy_to_replicas(tf.constant(rows))
            for start in range(0, num_full, self.steps_per_call):
                stop = min(start + self.steps_per_call, num_full)
                yield x, y, order, start, stop, self.batch_size
            if rest:
                (order,) = self._copy_to_replicas(tf.constant(rows[-rest:]))
                yield x, y, order, 0, 1, rest

    def _put_on_device(self, split: data.Split) -> tuple | None:
        """Returns a split's arrays on the device, None if they are too large."""
        if split.x.nbytes > self.device_bytes:
            return None
        if split not in self._on_device:
            self._on_device[split] = tf.constant(split.x), tf.constant(split.y)
        return self._on_device[split]

    def _copy_to_replicas(self, *arrays: tf.Tensor) -> tuple:
        """Returns the arrays with a full copy on every replica's device."""
        if self.strategy.num_replicas_in_sync == 1:
            return arrays
        return tuple(replicas.copy_to_replicas(self.strategy, a) for a in arrays)

    def _run_alone(self, *args: Any) -> tuple[metrics.Report, metrics.Means]:
        return self.strategy.run(self._compiled, args)

    def _run_steps(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        order: tf.Tensor,
        start: tf.Tensor,
        stop: tf.Tensor,
        size: int,
    ) -> tuple[metrics.Report, metrics.Means]:
        """The counterpart of `replicas.SharedSteps` on one device."""

        def run(i: tf.Tensor) -> metrics.Report:
            # With a slice, XLA would compile again for the first `i` of each call.
            rows = tf.gather(order, i * size + tf.range(size))
            return self.step(self._feed(tf.gather(x, rows)), tf.gather(y, rows))

        def body(i: tf.Tensor, sums: metrics.Means) -> tuple[tf.Tensor, metrics.Means]:
            # XLA removes the values of the report that are not used.
            return i + 1, metrics.add_weighted(sums, run(i).losses.means, size)

        sums = metrics.make_zeros(self._zeros)
        # With a counter instead of tf.range, one program runs any number of steps.
        i, sums = tf.while_loop(lambda i, _: i < stop - 1, body, [start, sums])
        report = run(i)
        return report, metrics.add_weighted(sums, report.losses.means, size)

    def evaluate(self, split: data.Split) -> metrics.Report:
        """Evaluates the model on every example of a split.

        Args:
            split: the examples.

        Returns:
            A report of floats: loss, metrics and activity penalties are means over the
            examples; the values of an update are None.

        Raises:
            ValueError: the split has no examples.
            TypeError: `split` isn't a Split.
        """
        self._refresh()
        num_examples = _count(split)
        parts = [
            metrics.to_floats(self._evaluation(x, y, split.pixels))
            for x, y in self._get_blocks(split)
        ]
        sums = tf.nest.map_structure(lambda *values: sum(values), *parts)
        report = metrics.Report(*metrics.divide(sums, num_examples))
        return metrics.drop_undefined(report)

    def _get_blocks(self, split: data.Split) -> Iterable[tuple]:
        arrays = self._put_on_device(split)
        if arrays is not None:
            return [arrays]
        order = np.arange(len(split), dtype=np.int32)
        return data.stream(split, order, self.steps_per_call * self.batch_size)

    def _run_evaluation(
        self, x: tf.Tensor, y: tf.Tensor, pixels: bool
    ) -> metrics.Losses:
        """Returns the sums of the losses over all examples."""
        num_examples = x.shape[0]
        size = min(num_examples, EVALUATION_BATCH)

        def run(start: tf.Tensor | int, size: int) -> metrics.Losses:
            inputs = metrics.scale_pixels(_cut(x, start, size), pixels)
            return self.step.evaluate(inputs, _cut(y, start, size))

        def body(
            start: tf.Tensor, sums: metrics.Losses
        ) -> tuple[tf.Tensor, metrics.Losses]:
            return start + size, metrics.add_weighted(sums, run(start, size), size)

        first = run(0, size)
        sums = metrics.add_weighted(metrics.make_zeros(first), first, size)
        stop = num_examples - num_examples % size
        start = tf.constant(size)
        start, sums = tf.while_loop(lambda i, _: i < stop, body, [start, sums])
        if stop < num_examples:
            rest = num_examples - stop
            sums = metrics.add_weighted(sums, run(stop, rest), rest)
        return sums


def _find_nonfinite(report: metrics.Report, sums: metrics.Means) -> str | None:
    """Returns the tag of a value that isn't finite, the data loss first, or None."""
    scalars = report._replace(metrics={}).get_scalars()
    scalars |= sums._replace(metrics={}).get_scalars()
    last = "loss/regularization", "loss/total"  # Sums of the others.
    tags = sorted(scalars, key=lambda tag: (tag in last, tag != "loss/data"))
    return next((tag for tag in tags if not math.isfinite(scalars[tag])), None)


def _count(split: data.Split) -> int:
    if not isinstance(split, data.Split):
        raise TypeError(
            f"split must be a tfreg.data.Split, got a {type(split).__name__}: "
            "write Split(x, y) with two arrays"
        )
    if not len(split):
        raise ValueError("split must have examples, got none: pass some")
    return len(split)


@scopes.do_not_convert
def _cut(tensor: tf.Tensor, start: tf.Tensor | int, size: int) -> tf.Tensor:
    rank = tensor.shape.rank
    return tf.slice(tensor, [start] + [0] * (rank - 1), [size, *tensor.shape[1:]])
