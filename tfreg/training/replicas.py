"""Training steps on several replicas: one XLA program and one collective per step.

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    x = replicas.copy_to_replicas(strategy, x)  # which SharedSteps takes rows of

Each replica takes its rows of the batch. An XLA program computes one vector of its
gradients and losses, the vectors are summed over the replicas, and the next program
applies the sum and computes the next batch; the rows of tables are gathered. The trap:
a collective inside XLA, which can't run it, or one collective for each variable, which
is slow.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from tfreg.collections import scopes
from tfreg.optimizers import gradients
from tfreg.training import metrics, step

# Dense gradients and losses, and of each table the values and the indices of its rows.
Parts: TypeAlias = tuple[list[tf.Tensor], list[tuple[tf.Tensor, tf.Tensor]]]


def copy_to_replicas(strategy: tf.distribute.Strategy, value: tf.Tensor) -> Any:
    """Returns a distributed value: a copy of a tensor on each replica's device."""
    devices = iter(strategy.extended.worker_devices)

    def copy(context: Any) -> tf.Tensor:
        del context
        with tf.device(next(devices)):
            return tf.identity(value)

    return strategy.experimental_distribute_values_from_function(copy)


class SharedSteps:
    """Runs training steps on several replicas; the results are those of one device.

    Args:
        train_step: the training step.
        strategy: the strategy in whose scope model and optimizer were created.
        zeros: zeros in the structure of the sums over the examples of all steps. The
            rest of the report is computed only for the last step.
        feed: returns a batch of inputs as the model takes it.
    """

    def __init__(
        self,
        train_step: step.Step,
        strategy: tf.distribute.Strategy,
        zeros: metrics.Means,
        feed: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        self.step = train_step
        self.strategy = strategy
        self._zeros, self._feed = zeros, feed
        self._structures: dict[bool, metrics.Losses | metrics.Means] = {}
        # Of the variables with a dense gradient, and of the tables.
        self._dense: list[int] = []
        self._tables: list[int] = []
        self._update = tf.function(self._run_update, jit_compile=True)
        self._backward = self._run_backward
        self._both = self._run_both
        if not _sums_over_replicas(train_step.model):
            self._backward = tf.function(self._run_backward, jit_compile=True)
            self._both = tf.function(self._run_both, jit_compile=True)

    def __call__(
        self,
        x: Any,
        y: Any,
        order: Any,
        start: tf.Tensor,
        stop: tf.Tensor,
        size: int,
    ) -> tuple[metrics.Report, metrics.Means]:
        """Updates the model `stop - start` times.

        Args:
            x: all inputs, of `copy_to_replicas`.
            y: all targets, of `copy_to_replicas`.
            order: int32 `[n]` of `copy_to_replicas`; the rows of step i are
                `order[i * size:][:size]`.
            start: int32 scalar, the first step.
            stop: int32 scalar, the last step plus one.
            size: of the global batch.

        Returns:
            The last step's report for all replicas, and the sums.

        Raises:
            ValueError: a variable is on another device.
        """
        run, data = self.strategy.run, (x, y, order)

        def run_first() -> Any:
            """Runs all steps but the last, each update with the next forward pass."""

            def body(i: tf.Tensor, packed: Any, sums: Any) -> tuple:
                return i + 1, *run(self._continue, (packed, sums, *data, i, size))

            packed = run(self._begin, (*data, start, size, False))
            first = [start + 1, packed, run(self._make_sums)]
            _, packed, sums = tf.while_loop(lambda i, *_: i < stop - 1, body, first)
            return run(self._end, (packed, sums, size, False))[2]

        sums = tf.cond(stop - start > 1, run_first, lambda: run(self._make_sums))
        packed = run(self._begin, (*data, stop - 1, size, True))
        ended = run(self._end, (packed, sums, size, True))
        local = self.strategy.experimental_local_results
        losses, update, sums = tf.nest.map_structure(lambda v: local(v)[0], ended)
        return metrics.Report(*losses, *update), sums

    def _make_sums(self) -> metrics.Means:
        return metrics.make_zeros(self._zeros)

    def _begin(self, *args: Any) -> Parts:
        return _sum(_call(self._backward, *args))

    def _continue(self, *args: Any) -> tuple[Parts, metrics.Means]:
        values, sums = _call(self._both, *args)
        return _sum(values), sums

    def _end(self, *args: Any) -> tuple[Any, metrics.Update, metrics.Means]:
        return _call(self._update, *args)

    def _run_both(
        self,
        packed: Parts,
        sums: metrics.Means,
        x: tf.Tensor,
        y: tf.Tensor,
        order: tf.Tensor,
        i: tf.Tensor,
        size: int,
    ) -> tuple[Parts, metrics.Means]:
        """Updates; returns the next batch's gradients and losses, and the sums."""
        *_, sums = self._update(packed, sums, size, False)
        return self._run_backward(x, y, order, i, size, False), sums

    def _run_backward(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        order: tf.Tensor,
        i: tf.Tensor,
        size: int,
        everything: bool,
    ) -> Parts:
        """Returns this replica's gradients and losses, of one dtype, and its rows."""
        replica = scopes.get_replica() or 0
        replicas = self.strategy.num_replicas_in_sync
        first, stop = size * replica // replicas, size * (replica + 1) // replicas
        # With a slice, XLA would compile again for each `i`.
        batch = tf.gather(order, i * size + tf.range(first, stop))
        grads, losses = self.step.compute_gradients(
            self._feed(tf.gather(x, batch)), tf.gather(y, batch), size
        )
        tables = {i: g for i, g in enumerate(grads) if isinstance(g, tf.IndexedSlices)}
        dense = {i: g for i, g in enumerate(grads) if g is not None and i not in tables}
        self._dense, self._tables = list(dense), list(tables)
        reported = losses if everything else losses.means
        self._structures[everything] = tf.nest.map_structure(lambda _: 0.0, reported)
        values = list(dense.values())
        # The widest dtype of the gradients; the accuracy's float64 isn't needed.
        dtypes = [tf.float32, *(value.dtype for value in values)]
        dtype = max(dtypes, key=lambda dtype: dtype.size)
        values += tf.nest.flatten(reported)
        rows = [(g.values, g.indices) for g in tables.values()]
        return [tf.cast(value, dtype) for value in values], rows

    def _run_update(
        self,
        packed: Parts,
        sums: metrics.Means,
        size: int,
        everything: bool,
    ) -> tuple[metrics.Losses | metrics.Means, metrics.Update, metrics.Means]:
        """Updates this replica's copy of the variables by the summed gradients."""
        structure = self._structures[everything]
        variables = self.step.model.trainable_variables
        vectors, rows = packed
        shapes = [variables[i].shape for i in self._dense]
        num_scalars = len(tf.nest.flatten(structure))
        parts = gradients.unpack(vectors, shapes + [tf.TensorShape([])] * num_scalars)
        reported = tf.nest.pack_sequence_as(structure, parts[len(shapes) :])
        summed: list[gradients.Gradient] = [None] * len(variables)
        for i, part in zip(self._dense, parts, strict=False):
            summed[i] = tf.cast(part, variables[i].dtype)
        for i, (values, indices) in zip(self._tables, rows, strict=True):
            shape = tf.constant(variables[i].shape.as_list(), tf.int64)
            summed[i] = tf.IndexedSlices(values, indices, shape)
        means = reported.means if everything else reported
        update = self.step.update(summed)
        return reported, update, metrics.add_weighted(sums, means, size)


def _sum(parts: Parts) -> Parts:
    """Returns the sums over all replicas, packed into a few vectors, and all rows."""
    # Packed outside XLA, which would be slow at it.
    context = tf.distribute.get_replica_context()
    values, rows = parts
    packed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients.pack(values))
    return packed, [gradients.gather(*pair) for pair in rows]


def _call(function: Callable, *args: Any) -> Any:
    """Calls a function, and checks that XLA can read its variables.

    Raises:
        ValueError: the function reads a variable on another device.
    """
    if hasattr(function, "get_concrete_function"):
        device = tf.zeros([]).device
        for variable in function.get_concrete_function(*args).variables:
            if variable.device != device:
                raise ValueError(
                    "every variable must be created in strategy.scope(), got "
                    f"{variable.name} on {variable.device} read on {device}: create "
                    "it there, also if it is a scale or a learning rate"
                )
    return function(*args)


def _sums_over_replicas(model: Any) -> bool:
    """Returns whether a layer sums over the replicas itself, which XLA can't."""
    members = [model, *getattr(model, "submodules", ())]
    return any(getattr(member, "sums_over_replicas", False) for member in members)
