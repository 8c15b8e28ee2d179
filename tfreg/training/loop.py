"""Many steps in one compiled graph, and evaluation of every example.

    train = tfreg.Step(model, tfreg.losses.sparse_softmax_cross_entropy, optimizer)
    loop = tfreg.Loop(train, dataset.train, batch_size=32, seed=0)
    for epoch in range(10):
        print(loop.train(epoch).total, loop.evaluate(dataset.test).metrics["accuracy"])

The traps: a Python call per step, which costs more than the step; a last batch that is
dropped; `tf.range` under XLA, which compiles again for every start.
"""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfreg import _checks, data
from tfreg.collections import ownership
from tfreg.training import (
    batches,
    blocks,
    compiling,
    evaluation,
    exactness,
    feeding,
    measuring,
    recovery,
    replicas,
    reports,
    shares,
    step,
)


class Loop(_checks.Guide):
    """Trains on one source of data, and evaluates on any.

    The order of the examples is a function of (seed, epoch). Every example is used once
    per epoch: the last batch may be smaller. On one device many steps are one program;
    on the replicas of a strategy each replica takes its part of the batch.

    Args:
        train_step: the training step.
        source: the examples: `tfreg.data.Split`, `Indexed` or `Pipeline`.
        batch_size: number of examples per step, on all replicas together. A Pipeline
            has batches of its own.
        seed: seed of the order of the examples and of their augmentation.
        steps_per_call: largest number of steps in a call of the compiled graph; between
            two calls Python can read the report, stop or save. None: as many as take
            about a second.
        device_bytes: larger sources are read in blocks; smaller ones are kept on the
            device.
        strategy: the strategy to train with, in whose scope model and optimizer were
            created; None: the current one.
        compile: `xla`, `graph`, or `auto` for what `compiling.choose` chooses.
        augment: callable (batch, keys) -> batch, for training, or a list of these; see
            `tfreg.data.augment`.

    Raises:
        ValueError: a size isn't a positive int, a seed isn't from 0 to 2**64 - 1, or
            the source has no examples.
        TypeError: `source` isn't one of tfreg.data.

    Attributes:
        seconds: time in the steps of the last epoch.
    """

    def __repr__(self) -> str:
        kind, size = type(self.step.model).__name__, f"batch_size={self.batch_size}"
        return f"Loop({kind}, {self.source!r}, {size}, {self.steps_per_epoch} steps)"

    def __init__(
        self,
        train_step: step.Step,
        source: Any,
        batch_size: int = 32,
        seed: int = 0,
        steps_per_call: int | None = None,
        device_bytes: int = 2**30,
        strategy: tf.distribute.Strategy | None = None,
        compile: str = "auto",
        augment: Any = None,
    ) -> None:
        batch_size = _checks.check_int("batch_size", batch_size)
        if steps_per_call is not None:
            steps_per_call = _checks.check_int("steps_per_call", steps_per_call)
        feeding.check_source(source, seed)
        self.step = train_step
        self.batch_size = batch_size
        if feeding.is_indexed(source):
            self.batch_size = min(batch_size, len(source))
        self.steps_per_call = steps_per_call
        self.device_bytes = device_bytes
        self.strategy = strategy or tf.distribute.get_strategy()
        self.seconds = 0.0
        self._speed = 0.0  # Steps per second of the last call.
        self._average = compiling.trace(replicas.average_over_workers)
        self._compile = compiling.check(compile)
        if isinstance(augment, list | tuple):
            augment = data.augment.chain(*augment)
        options = (source, self.batch_size, seed, augment, device_bytes)
        self._plain = self._feed = feeding.Feed(*options)
        if self.strategy.num_replicas_in_sync > 1:
            own = replicas.list_replicas(self.strategy)
            copy = functools.partial(replicas.copy_to_replicas, self.strategy)
            self._feed = feeding.Feed(*options, copy, own)
        self._compiled_for: list[Any] = []
        self._build()

    @property
    def mode(self) -> compiling.Mode:
        """How the step is compiled, and why."""
        self._refresh()
        return self._mode

    @property
    def source(self) -> Any:
        """The examples."""
        return self._feed.source

    @property
    def sums(self) -> reports.Sums:
        """The sums over the examples of the epoch so far."""
        return self._guard.sums

    def measure_forward(self) -> int:
        """Returns the bytes of the largest output of the forward pass of a batch."""
        most = 0
        for operation in self._graph.get_operations():
            for tensor in operation.outputs:
                shape = tensor.shape.as_list() if tensor.shape.rank else []
                if None in shape:  # Else it doesn't grow with the batch.
                    sizes = [self.batch_size if n is None else n for n in shape]
                    most = max(most, math.prod(sizes) * tensor.dtype.size)
        return most

    def _build(self) -> None:
        """Creates all variables, and traces the forward pass."""
        batch = batches.Batch(*self._feed.read_example())
        with self.strategy.scope():
            self.step.build(batch)
        self._trace_forward(self._describe())
        self.step.adapted.check_watched([])
        self.step.updater.warn_doubled()

    def _describe(self) -> list[Any]:
        """Returns what the compiled functions depend on: variables and penalties."""
        model = ownership.Model(self.step.model, keras=True)
        named = [(term.name, id(term.regularizer)) for term in model.get_terms()]
        variables = self.step.adapted.list_variables(True, model.parts)
        return [*map(id, variables), *named, exactness.is_enabled()]

    def _trace_forward(self, described: list[Any]) -> None:
        """Traces the forward pass, and makes zeros in the structure of its sums."""
        self._forward = compiling.trace(self._evaluate_batch)
        with self.strategy.scope():
            spec, *_ = self._feed.make_specs(None)
            forward = self._forward.get_concrete_function(spec, self._get_pixels())
            self.step.updater.build()
        self._described, self._graph = described, forward.graph
        sums = reports.make_zeros(forward.structured_outputs)
        self._evaluated = sums
        self._zeros = sums._replace(penalties={})
        self._guard = recovery.Guard(self.step, self._feed, self._call, self._zeros)

    def _refresh(self) -> None:
        """Compiles, and anew where layers were (un)frozen or penalties added."""
        exactness.use(self.step.precision)
        described = self._describe()
        if described == self._compiled_for:
            return
        if described != self._described:
            self._trace_forward(described)
        self._compiled_for = described
        self._one = compiling.trace(self._train_batch)
        self._mode = self._choose_mode()
        xla, held = self._mode.name == "xla", feeding.is_indexed(self.source)
        if not held:
            # An iterator can't be read in XLA, but each of its batches be trained on.
            self._one = compiling.trace(self._train_batch, jit_compile=xla)
        self.blocks = None
        self._steps = compiling.trace(
            lambda *args: self.strategy.run(self._run_steps, args)
        )
        if self.strategy.num_replicas_in_sync == 1 and xla and held:
            self.blocks = blocks.Blocks(self._take_and_train, self.strategy)
            self._speed = 0.0
        elif self.strategy.num_replicas_in_sync > 1:
            self._steps = compiling.trace(
                replicas.SharedSteps(self.step, self.strategy, self._feed.finish, xla)
            )
        zeros = self._evaluated
        self._evaluate = evaluation.Evaluation(self._forward, zeros, xla)

    def _choose_mode(self) -> compiling.Mode:
        if self._compile != "auto":
            return compiling.Mode(self._compile, ("chosen by the caller",))
        device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        # Most reasons are in the forward pass, of which there is a trace already.
        exact = exactness.is_enabled()
        mode = compiling.choose(self._graph, device, exact, any_dimensions=True)
        if mode.name == "graph":
            return mode
        one = self._one
        if self.strategy.num_replicas_in_sync > 1:  # Their updates are alike.
            one = compiling.trace(self._differentiate)
        run = compiling.trace(lambda *args: self.strategy.run(one, args))
        specs = self._feed.make_specs(self.batch_size)
        graph = run.get_concrete_function(*specs).graph
        return compiling.choose(graph, device, exact)

    def _differentiate(self, *args: Any) -> shares.Shares:
        return self.step.compute_gradients(batches.Batch(*self._feed.finish(*args)))

    def _train_batch(self, *args: Any) -> tuple[reports.Losses, reports.Update]:
        own = self._differentiate(*args)
        return own.losses, self.step.update(own.gradients, own.updates)

    def _evaluate_batch(self, batch: tuple, pixels: bool) -> reports.Sums:
        return self.step.evaluate(*batches.scale(batch, pixels)).sums

    def _get_pixels(self) -> bool:
        return getattr(self.source, "pixels", False)

    def restart(self, source: Any, seed: int) -> None:
        """Changes the examples and their order, without compiling again.

        Args:
            source: the same number of examples, of the same shapes.
            seed: seed of the order of the examples.

        Raises:
            ValueError: examples of other shapes, or a seed out of range.
        """
        described = [(len(v), repr(v.spec), v.pixels) for v in (source, self.source)]
        if described[0] != described[1]:
            raise ValueError(
                f"source must have the shapes {described[1]}, got {described[0]}: make "
                "a Loop"
            )
        feeding.check_source(source, seed)
        self._feed.source, self._feed.seed = source, seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch, including a smaller last one."""
        return self._feed.num_steps

    def train(self, epoch: int) -> reports.Report:
        """Trains for an epoch and returns its report; see `iterate`."""
        return list(self.iterate(epoch))[-1]

    def iterate(
        self, epoch: int, steps: int = 0, sums: reports.Sums | None = None
    ) -> Iterator[reports.Report]:
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
            data.DataError: examples can't be read; the model is in the state after the
                last whole step.
        """
        _checks.check_int("steps", steps, 0, self.steps_per_epoch)
        self.step.start_epoch(epoch)
        self._refresh()
        self._guard.sums = sums or self._zeros
        self.seconds = 0.0
        for call in self._feed.list_calls(epoch, steps, self._limit):
            began = time.perf_counter()
            with exactness.explain():
                losses, update, _ = self._guard.run(call, epoch)
            seconds = time.perf_counter() - began
            self.seconds += seconds
            if call.size in (0, self.batch_size):
                self._note_speed((call.stop - call.start) / seconds)
            means = self._average_sums(self.sums)
            yield means._replace(
                regularization=losses.regularization,
                penalties=losses.penalties,
                **update._asdict(),
                num_steps=call.position + call.stop - call.start,
            )

    def _note_speed(self, speed: float) -> None:
        # With compiled blocks, which stay as they are, a slow moment doesn't count.
        self._speed = speed if self.blocks is None else max(self._speed, speed)

    def _limit(self) -> int:
        """Returns the largest number of steps in the next call."""
        if self.blocks is not None:
            return self.blocks.limit(self._speed, self.steps_per_call)
        if self.steps_per_call:
            return self.steps_per_call
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # Workers in calls of different lengths would wait for each other forever.
            self._speed = float(self._average(self.strategy, tf.constant(self._speed)))
        return min(max(int(self._speed), 1), blocks.MOST_STEPS)

    def get_state(self) -> dict[str, Any]:
        """Returns the objects to save in a checkpoint, by name."""
        return self.step.get_state()

    def _call(
        self, call: feeding.Call, epoch: int, sums: reports.Sums
    ) -> recovery.Done:
        number, sums = tf.constant(epoch, tf.int64), reports.to_tensors(sums)
        if self.blocks is not None:
            return reports.to_numpy(self.blocks(call, number, sums))
        start, stop = tf.constant(call.start), tf.constant(call.stop)
        args = call.data, start, stop, self._get_size(call), number, sums
        with recovery.explain_reading():
            return reports.to_numpy(self._steps(*args))

    def _take_and_train(
        self, source: Any, i: tf.Tensor, size: Any, epoch: tf.Tensor
    ) -> tuple[reports.Losses, reports.Update]:
        batch, numbers = feeding.take(source, i, 0, size)
        return self._one(batch, numbers, i, epoch)

    def _run_steps(
        self,
        source: Any,
        start: tf.Tensor,
        stop: tf.Tensor,
        size: Any,
        epoch: tf.Tensor,
        sums: reports.Sums,
    ) -> recovery.Done:
        """Runs steps in a loop that carries each step's report to its end.

        One place for a step in the graph starts twice as fast as two.
        """
        one = self._one.get_concrete_function(*self._feed.make_specs(None))
        outputs = tf.nest.flatten(one.structured_outputs)
        first = [tf.zeros(v.shape, v.dtype) for v in outputs if v is not None]

        def body(i: tf.Tensor, sums: reports.Sums, *_: Any) -> tuple:
            losses, update = self._take_and_train(source, i, size, epoch)
            reported = tf.nest.flatten((losses, update))
            carried = [value for value in reported if value is not None]
            return i + 1, reports.add_losses(sums, losses), *carried

        state = [start, sums, *first]
        _, sums, *last = tf.while_loop(lambda i, *_: i < stop, body, state)
        values = iter(last)
        flat = [None if value is None else next(values) for value in outputs]
        packed = tf.nest.pack_sequence_as(one.structured_outputs, flat)
        return *packed, sums

    def evaluate(self, source: Any, batch_size: int | None = None) -> reports.Report:
        """Evaluates the model on every example of a source.

        Args:
            source: the examples, with inputs and targets as those of training.
            batch_size: number of examples in memory at once; None: that of training.

        Returns:
            A report of floats: loss, metrics and activity penalties are means over the
            examples; the values of an update are None.

        Raises:
            ValueError: the source has no examples, or other parts than that of
                training.
            TypeError: `source` isn't one of tfreg.data.
        """
        self._refresh()
        feeding.check_source(source, self._feed.seed)
        feeding.check_structure(source, self.source)
        size = _checks.check_int("batch_size", batch_size or self.batch_size)
        if feeding.is_indexed(source):
            size = min(size, len(source))
        with exactness.explain():
            return self._average_sums(self._evaluate(self._plain.replace(source, size)))

    def _get_size(self, call: feeding.Call) -> Any:
        # In XLA the size of a batch is static.
        return tf.constant(call.size) if self._mode.name == "graph" else call.size

    def _average_sums(self, sums: reports.Sums) -> reports.Report:
        metrics = self.step.get_metrics(sums.states)
        return reports.average(sums, measuring.to_floats(metrics))
