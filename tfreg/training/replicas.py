"""Training steps on several replicas: one XLA program and one collective per step.

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    x = replicas.copy_to_replicas(strategy, x)  # which SharedSteps takes rows of

Each replica takes its rows of the batch. An XLA program computes one vector of its
gradients and losses, the vectors are summed over the replicas, and the next program
applies the sum and computes the next batch; the rows of tables are gathered. The trap:
a collective inside XLA, which can't run it, or one collective for each variable, which
is slow.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from tfreg.collections import scopes, totals
from tfreg.optimizers import gradients
from tfreg.training import batches, compiling, feeding, reports, step

# Dense gradients and new values; losses and sums; and of each table the values and the
# indices of its rows.
Parts: TypeAlias = tuple[
    list[tf.Tensor], list[tf.Tensor], list[tuple[tf.Tensor, tf.Tensor]]
]


def copy_to_replicas(strategy: tf.distribute.Strategy, value: tf.Tensor) -> Any:
    """Returns a distributed value: a copy of a tensor on each replica's device."""
    devices = iter(strategy.extended.worker_devices)

    def copy(context: Any) -> tf.Tensor:
        del context
        with tf.device(next(devices)):
            return tf.identity(value)

    return strategy.experimental_distribute_values_from_function(copy)


def list_replicas(strategy: tf.distribute.Strategy) -> feeding.Replicas:
    """Returns the replicas of this process, one of the strategy's workers."""
    numbers: list[int] = []

    def note(context: Any) -> tf.Tensor:
        numbers.append(context.replica_id_in_sync_group)
        return tf.zeros([])

    strategy.experimental_distribute_values_from_function(note)
    total = strategy.num_replicas_in_sync
    return feeding.Replicas(min(numbers), max(numbers) + 1, total)


def average_over_workers(
    strategy: tf.distribute.Strategy, value: tf.Tensor
) -> tf.Tensor:
    """Returns the mean of a scalar over all workers, which must all call it."""

    def average(value: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # An argument of the function is on no device.
        copied = tf.identity(value)
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, copied)

    values = strategy.run(average, (value,))
    return strategy.experimental_local_results(values)[0]


class SharedSteps:
    """Runs training steps on several replicas; the results are those of one device.

    Args:
        train_step: the training step.
        strategy: the strategy in whose scope model and optimizer were created.
        finish: returns a batch as the model takes it; `Feed.finish`.
        xla: whether XLA compiles the steps.
    """

    def __init__(
        self,
        train_step: step.Step,
        strategy: tf.distribute.Strategy,
        finish: Callable[..., tuple],
        xla: bool,
    ) -> None:
        self.step = train_step
        self.strategy = strategy
        self._finish = finish
        self._structures: dict[bool, reports.Losses | reports.Sums] = {}
        # Of the variables with a dense gradient, of the tables, and of new values.
        self._dense: list[int] = []
        self._tables: list[int] = []
        self._updated: dict[int, tf.TensorSpec] = {}
        self._update: Callable = self._run_update
        self._backward: Callable = self._run_backward
        self._both: Callable = self._run_both
        # A function can't sum over the replicas, compiled or not.
        trace = functools.partial(compiling.trace, jit_compile=xla)
        if not train_step.optimizer.sums_over_replicas:
            self._update = trace(self._run_update)
        if not _sums_over_replicas(train_step.adapted.model):
            self._backward = trace(self._run_backward)
            if not train_step.optimizer.sums_over_replicas:
                self._both = trace(self._run_both)

    def __call__(
        self,
        source: Any,
        start: tf.Tensor,
        stop: tf.Tensor,
        size: Any,
        epoch: tf.Tensor,
        sums: reports.Sums,
    ) -> tuple[reports.Losses, reports.Update, reports.Sums]:
        """Updates the model `stop - start` times.

        Args:
            source: `feeding.Held` of `copy_to_replicas`, or an iterator.
            start: int32 scalar, the first step.
            stop: int32 scalar, the last step plus one.
            size: of the global batch, for `Held`.
            epoch: int64 scalar, for the augmentation.
            sums: over the examples so far.

        Returns:
            The last step's losses and update for all replicas, and the sums.

        Raises:
            ValueError: a variable is on another device.
        """
        run = self.strategy.run

        def read(i: tf.Tensor) -> tuple:
            """Returns the arguments of a replica for a step."""
            if isinstance(source, feeding.Held):
                return source, i, size, epoch
            batch = source.get_next()
            return batch, i, batches.count_rows(batch), epoch

        def run_first() -> Any:
            """Runs all steps but the last, each update with the next forward pass."""

            def body(i: tf.Tensor, packed: Any, sums: Any) -> tuple:
                return i + 1, *run(self._continue, (packed, sums, read(i)))

            packed = run(self._begin, (read(start), False))
            copied = run(self._copy, (sums,))
            first = [start + 1, packed, copied]
            _, packed, copied = tf.while_loop(lambda i, *_: i < stop - 1, body, first)
            return run(self._end, (packed, copied, False))[2]

        copied = tf.cond(stop - start > 1, run_first, lambda: run(self._copy, (sums,)))
        packed = run(self._begin, (read(stop - 1), True))
        ended = run(self._end, (packed, copied, True))
        local = self.strategy.experimental_local_results
        return tf.nest.map_structure(lambda v: local(v)[0], ended)

    def _copy(self, sums: reports.Sums) -> reports.Sums:
        return tf.nest.map_structure(tf.identity, sums)

    def _begin(self, args: tuple, everything: bool) -> Parts:
        return _sum(_call(self._backward, args, everything))

    def _continue(
        self, packed: Parts, sums: reports.Sums, args: tuple
    ) -> tuple[Parts, reports.Sums]:
        values, sums = _call(self._both, packed, sums, args)
        return _sum(values), sums

    def _end(self, packed: Parts, sums: reports.Sums, everything: bool) -> tuple:
        return _call(self._update, packed, sums, everything)

    def _run_both(
        self, packed: Parts, sums: reports.Sums, args: tuple
    ) -> tuple[Parts, reports.Sums]:
        """Updates; returns the next batch's gradients and losses, and the sums."""
        *_, sums = self._update(packed, sums, False)
        return self._backward(args, False), sums

    def _run_backward(self, args: tuple, everything: bool) -> Parts:
        """Returns this replica's gradients and losses, of one dtype, and its rows."""
        source, i, size, epoch = args
        replica = scopes.get_replica() or 0
        replicas = self.strategy.num_replicas_in_sync
        first, stop = size * replica // replicas, size * (replica + 1) // replicas
        batch, numbers = feeding.take(source, i, first, stop)
        batch = batches.Batch(*self._finish(batch, numbers, i, epoch))
        count = None
        if batch.weights is not None:
            whole, _ = feeding.take(source, i, 0, size)
            count = totals.count_nonzero(whole[2])
        grads, losses, updates = self.step.compute_gradients(batch, size, first, count)
        tables = {i: g for i, g in enumerate(grads) if isinstance(g, tf.IndexedSlices)}
        dense = {i: g for i, g in enumerate(grads) if g is not None and i not in tables}
        self._dense, self._tables = list(dense), list(tables)
        self._updated = {i: v.shape for i, v in updates.items()}
        reported = losses if everything else losses.sums._replace(penalties={})
        self._structures[everything] = tf.nest.map_structure(
            lambda v: v.shape, reported
        )
        values = [*dense.values(), *updates.values()]
        dtypes = [tf.float32, *(value.dtype for value in values)]
        dtype = max(dtypes, key=lambda dtype: dtype.size)
        rows = [(g.values, g.indices) for g in tables.values()]
        scalars = [tf.cast(v, tf.float64) for v in tf.nest.flatten(reported)]
        return [tf.cast(value, dtype) for value in values], scalars, rows

    def _run_update(
        self, packed: Parts, sums: reports.Sums, everything: bool
    ) -> tuple[reports.Losses | reports.Sums, reports.Update, reports.Sums]:
        """Updates this replica's copy of the variables by the summed gradients."""
        structure = self._structures[everything]
        variables = self.step.adapted.trainable_variables
        vectors, scalars, rows = packed
        shapes = [variables[i].shape for i in self._dense]
        parts = iter(gradients.unpack(vectors, [*shapes, *self._updated.values()]))
        summed: list[gradients.Gradient] = [None] * len(variables)
        for i in self._dense:
            summed[i] = tf.cast(next(parts), variables[i].dtype)
        updates = {i: next(parts) for i in self._updated}
        shapes = tf.nest.flatten(structure)
        values = gradients.unpack(scalars, shapes)
        reported = tf.nest.pack_sequence_as(structure, values)
        for i, (looked_up, indices) in zip(self._tables, rows, strict=True):
            shape = tf.constant(variables[i].shape.as_list(), tf.int64)
            summed[i] = tf.IndexedSlices(looked_up, indices, shape)
        update = self.step.update(summed, updates)
        more = reported.sums._replace(penalties={}) if everything else reported
        return reported, update, reports.add(sums, more)


def _sum(parts: Parts) -> Parts:
    """Returns the sums over all replicas, packed into a few vectors, and all rows."""
    # Packed outside XLA, which would be slow at it.
    context = tf.distribute.get_replica_context()
    *values, rows = parts
    # One call for each dtype: TensorFlow concatenates what it gets in one. It fails
    # for nothing, as of a model that has tables only.
    packed, scalars = (
        context.all_reduce(tf.distribute.ReduceOp.SUM, gradients.pack(each))
        if each
        else []
        for each in values
    )
    return packed, scalars, [gradients.gather(*pair) for pair in rows]


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
