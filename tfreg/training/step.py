"""One training step: forward, total loss, gradients, their sum, clipping, update.

    train = tfreg.Step(model, tfreg.losses.sparse_softmax_cross_entropy, optimizer)
    step = tf.function(train, jit_compile=True)
    report = step(x, y)  # report.loss, report.total, ...

The traps: penalties that are computed at every step although only their gradients are
needed, and gradients that are clipped before they are summed over the replicas. XLA
computes only the values of the report that the caller uses, and the order of an update
is fixed. The gradients of weight penalties are the same on every replica, so they are
added once, after the sum.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks, models, optimizers, regularizers
from tfreg.collections import ownership, random, scopes, totals
from tfreg.models import freezing
from tfreg.optimizers import after as hooks
from tfreg.optimizers import decays, gradients
from tfreg.training import (
    batches,
    exactness,
    measuring,
    objectives,
    reports,
    scores,
    shares,
    updates,
)
from tfreg.training import precision as precisions


class _Pass(threading.local):
    """The forward pass that is running, one for each replica's thread."""

    training = False
    num_examples: Any = 0
    states: reports.States = {}


class Step(_checks.Guide):
    """A training or evaluation step, for any model, loss and optimizer.

    The penalties are those of the model. An update sums the gradients over microbatches
    and replicas, adds those of the weight penalties, clips the sum and applies it. For
    a step of one's own override `compute_loss`; see docs/own-step.md.

    Args:
        model: a model of tfreg's layers, Keras, Sonnet or tf.Modules; see
            `tfreg.models.adapt`.
        data_loss: callable (y, outputs) -> losses `[batch, ...]`; a Keras loss is taken
            per example, whatever its reduction; or a dict, list or tuple of these, for
            outputs and targets of this structure. It says what the targets are, and so
            which metrics are reported. None where `compute_loss` is overridden.
        optimizer: of `tfreg.optimizers` or of Keras.
        clip_norm: largest global norm of the gradient, of data and penalties and of all
            replicas together; None: no clipping.
        seed: seed of dropout, together with the number of the step.
        accumulate: number of microbatches that a batch is split into, to save memory.
            The update is that of the full batch, except for BatchNorm's statistics.
        precision: the model's dtype: float32, bfloat16 or float16; or tf32, float32
            whose products a GPU rounds. Variables, losses and penalties are float32.
            float16 has a `loss_scale`, and skips an update that overflows. A Keras
            model must have this dtype in its policy.
        metrics: name -> Keras metric, or None for tfreg's metric of that name; see
            `tfreg.training.measuring.Metrics`. None: those that fit the loss.
        loss_weights: name -> finite float >= 0, of several data losses; default 1.0.
        frozen: models that the step reads and doesn't train, such as a teacher.
        after: what follows an update, in this order: functions (variables, step), such
            as `optimizers.ema` and `optimizers.max_norm`; see `optimizers.after`.

    Raises:
        ValueError: an argument has an invalid value.
        TypeError: the model or the optimizer isn't one.
    """

    def __init__(
        self,
        model: Any,
        data_loss: Any,
        optimizer: Any,
        clip_norm: float | None = None,
        seed: int = 0,
        accumulate: int = 1,
        precision: str = "float32",
        metrics: Mapping[str, Any] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        frozen: Sequence[Any] = (),
        after: Sequence[hooks.Hook] = (),
    ) -> None:
        if clip_norm is not None:
            clip_norm = _checks.check_float("clip_norm", clip_norm)
        scopes.check_strategy()
        self.model, self.frozen = model, tuple(frozen)
        self.adapted = models.adapt(model)
        self.objective = objectives.Objective(data_loss, loss_weights)
        self.metrics = measuring.Metrics(metrics, self.objective)
        self.optimizer = optimizers.adapt(optimizer)
        self.clip_norm = clip_norm
        self.accumulate = _checks.check_int("accumulate", accumulate)
        self.seed, self.precision = seed, precision
        self.dtype = precisions.check(precision, self.adapted.dtype_policy)
        exactness.use(precision)
        self.loss_scale = precisions.LossScale() if precision == "float16" else None
        args = self.adapted, self.optimizer, clip_norm, self.loss_scale
        self.updater = updates.Updater(*args, hooks.check(after), seed)
        self._held: set[int] = set()  # Variables that groups have frozen.
        self._pass = _Pass()

    def __repr__(self) -> str:
        return f"Step({type(self.model).__name__}, {self.objective}, {self.updater})"

    def list_averages(self) -> list[hooks.Ema]:
        """Returns the averages of the weights among the hooks."""
        return [hook for hook in self.updater.after if isinstance(hook, hooks.Ema)]

    @property
    def ema(self) -> hooks.Ema:
        """The average of the weights among the hooks.

        Raises:
            ValueError: there is none.
        """
        for average in self.list_averages():
            return average
        raise ValueError(
            f"after must hold an average, got {self.updater.after}: write "
            "after=[tfreg.optimizers.ema(0.999)]"
        )

    def start_epoch(self, epoch: int) -> None:
        """Freezes the groups of variables that aren't trained in an epoch.

        A Loop calls it. It does nothing without `optimizers.groups`.

        Args:
            epoch: counted from 0.
        """
        if not isinstance(self.optimizer, optimizers.Groups):
            return
        known = freezing.list_parameters(self.adapted)
        trained = {id(v) for v in known if self.optimizer.is_trained(v, epoch)}
        self._held = freezing.hold(self.adapted, trained, self._held)

    def build(self, batch: batches.Batch) -> None:
        """Creates the variables of Keras layers, and checks the metrics.

        Args:
            batch: eager, of one or a few examples.

        Raises:
            ValueError: a metric doesn't fit the outputs.
        """
        x = tf.nest.map_structure(self._cast, batch.x)
        self.adapted.build(x)
        if self.metrics.has_keras:
            with self._scope(batch, 0, 0), self.adapted.step(None):
                outputs = self.adapted(x, training=False)
            self.metrics.check(*batch[1:2], outputs, batch.weights)
        if isinstance(self.optimizer, optimizers.Groups):
            with self._scope(batch, 0, 0), self.adapted.step(None):
                self.adapted(x, training=False)  # Layers create their variables.
            known = freezing.list_parameters(self.adapted)
            self.optimizer.assign(self.adapted.by_path(known))
            self.start_epoch(0)

    @scopes.do_not_convert
    def compute_loss(self, batch: batches.Batch) -> Any:
        """Returns the data losses of a batch; to be overridden.

        Args:
            batch: of this replica, or a microbatch of it.

        Returns:
            Losses `[batch, ...]`, or a dict name -> losses, which are added.
        """
        outputs = self.forward(batch.x)
        self.measure(batch, outputs)
        return self.objective(batch.y, outputs)

    def forward(self, x: Any) -> Any:
        """Returns the model's outputs; each call in a step has its own dropout masks.

        Args:
            x: inputs, a nest of `[batch, ...]` tensors; floating ones are cast to the
                step's precision.
        """
        x = tf.nest.map_structure(self._cast, x)
        return self.adapted(x, training=self._pass.training)

    def measure(self, batch: batches.Batch, outputs: Any) -> None:
        """Adds outputs to the step's metrics."""
        increments = self.metrics.update(batch.y, outputs, batch.weights)
        self._pass.states = self._pass.states | increments

    def report(self, name: str, values: tf.Tensor) -> None:
        """Reports the mean of values of one's own, as a metric.

        Args:
            name: of the metric.
            values: `[batch, ...]`, or a scalar, the mean over this replica's examples.
        """
        values = tf.cast(values, tf.float32)
        examples = tf.cast(self._pass.num_examples, tf.float32)
        if values.shape.rank:
            values = tf.reduce_sum(totals.average_each(values))
        else:
            values = tf.math.multiply_no_nan(values, examples)
        self._pass.states = self._pass.states | {name: (values, examples)}

    @scopes.do_not_convert
    def __call__(self, x: Any, y: Any, weights: Any = None) -> reports.Report:
        """Updates the model once; in `strategy.run` by the gradients of all replicas.

        Args:
            x: inputs of this replica, a nest of `[batch, ...]` tensors.
            y: targets, likewise.
            weights: as for `batches.Batch`.

        Returns:
            The losses are this replica's share, and the metrics those of all replicas.
        """
        own = self.compute_gradients(batches.Batch(x, y, weights))
        losses, states = own.losses, own.losses.sums.states
        parts = *own.updates.values(), *tf.nest.flatten(states)
        summed = gradients.sum_over_replicas([*own.gradients, *parts])
        cut = len(own.gradients)
        end = cut + len(own.updates)
        states = tf.nest.pack_sequence_as(states, summed[end:])
        new_values = dict(zip(own.updates, summed[cut:end], strict=True))
        update = self.update(summed[:cut], new_values)
        return reports.Report(
            losses.loss,
            losses.regularization,
            losses.penalties,
            self.get_metrics(states),
            *update,
            data_losses=losses.data_losses,
        )

    @scopes.do_not_convert
    def compute_gradients(
        self,
        batch: batches.Batch,
        global_batch_size: Any = None,
        first: Any = None,
        global_count: Any = None,
    ) -> shares.Shares:
        """Returns this replica's share of gradients, losses and state.

        Args:
            batch: examples of this replica.
            global_batch_size: number of examples on all replicas; None: the sum over
                the replicas.
            first: index in the global batch of the replica's first example, from which
                its dropout masks are drawn; None: from the replica's number.
            global_count: number of weights other than 0 on all replicas; None: their
                sum over the replicas.

        Returns:
            One gradient per trainable variable, times the loss scale if there is one,
            without the weight penalties, which `update` adds; IndexedSlices only where
            the optimizer `takes_rows`.
        """
        num_rows = batches.count_rows(batch.x)
        if first is None and scopes.count_replicas() == 1:
            first = 0
        counts = global_batch_size, global_count
        if self.accumulate == 1:
            return self._compute_part(batch, counts, first, 0)
        if global_batch_size is None:
            # Microbatches have different sizes, and each needs the global one.
            counts = *gradients.sum_over_replicas([num_rows]), global_count
        if global_count is None and batch.weights is not None:
            count = totals.count_nonzero(batch.weights)
            counts = counts[0], *gradients.sum_over_replicas([count])
        bounds = [num_rows * k // self.accumulate for k in range(self.accumulate + 1)]
        added = None
        for k in range(self.accumulate):
            rows = slice(bounds[k], bounds[k + 1])
            start = None if first is None else first + bounds[k]
            part = self._compute_part(batches.cut(batch, rows), counts, start, k)
            added = part if added is None else shares.add(added, part)
        return added  # type: ignore[return-value]

    def _compute_part(
        self, batch: batches.Batch, counts: tuple[Any, Any], first: Any, microbatch: int
    ) -> shares.Shares:
        scope = self._scope(batch, first, microbatch)
        key = self._make_key(microbatch)
        with scope, tf.GradientTape() as tape, self.adapted.step(key) as state:
            losses = self._compute_losses(batch, training=True)
            self._check_watched(tape)
            parts = totals.split_total(
                self.objective.combine(losses),
                ownership.Model(self.model, keras=True),
                batch.weights,
                global_batch_size=counts[0],
                microbatches=self.accumulate,
                global_count=counts[1],
            )
            scale, total = self.loss_scale, parts.without_terms
            total = total if scale is None else scale.multiply(total)
        grads = tape.gradient(total, self.adapted.trainable_variables)
        if not self.optimizer.takes_rows:
            grads = gradients.make_dense(grads)
        assigned, variables = state.get_updates(), self.adapted.variables
        own = batch, parts, self.accumulate
        return shares.Shares(
            grads,
            shares.measure(losses, self._pass.states, *own),
            shares.weigh_updates(assigned, variables, *own),
        )

    def _compute_losses(
        self, batch: batches.Batch, training: bool
    ) -> dict[str, tf.Tensor]:
        self._pass.training, self._pass.states = training, {}
        self._pass.num_examples = batches.count_rows(batch.x)
        losses = scopes.convert(self.compute_loss)(batch)
        losses = losses if isinstance(losses, dict) else {"": losses}
        for name, value in losses.items():
            objectives.check_own(name, value)
        return losses

    def _check_watched(self, tape: tf.GradientTape) -> None:
        watched = [v for v in tape.watched_variables() if not regularizers.is_scale(v)]
        self.adapted.check_watched(watched, self.frozen)

    @contextlib.contextmanager
    def _scope(
        self, batch: batches.Batch, first: Any, microbatch: int
    ) -> Iterator[None]:
        examples = None if first is None else (first, batches.count_rows(batch.x))
        # Without its place each microbatch has a seed that is far from the others.
        seed = self.seed + (2**32 * microbatch if first is None else 0)
        with scopes.step_scope(self.optimizer.step, seed, examples), decays.applying():
            yield

    def _make_key(self, microbatch: int) -> tf.Tensor | None:
        """Returns the key of the random numbers of Keras's layers, if there are any."""
        if self.adapted.is_plain:
            return None
        place = self.accumulate * (scopes.get_replica() or 0) + microbatch
        return random.make_key(self.seed, self.optimizer.step.read_value(), place)

    def _cast(self, x: Any) -> Any:
        x = x if isinstance(x, tf.RaggedTensor) else tf.convert_to_tensor(x)
        return tf.cast(x, self.dtype) if x.dtype.is_floating else x

    @scopes.do_not_convert
    def update(
        self,
        summed: Sequence[gradients.Gradient],
        new_values: Mapping[int, tf.Tensor] | None = None,
    ) -> reports.Update:
        """Adds the gradients of the weight penalties, clips the sum and applies it.

        Args:
            summed: the gradients, summed over the replicas.
            new_values: `updates` of `shares.Shares`, summed over the replicas.

        Returns:
            The norm of the gradients, the learning rate, and the loss scale.
        """
        return self.updater.apply(summed, new_values or {})

    @scopes.do_not_convert
    def evaluate(self, x: Any, y: Any, weights: Any = None) -> reports.Losses:
        """Returns the losses, as `compute_gradients`, without changing the model."""
        batch = batches.Batch(x, y, weights)
        with self._scope(batch, 0, 0), self.adapted.step(None):
            losses = self._compute_losses(batch, training=False)
            parts = totals.split_total(
                self.objective.combine(losses),
                ownership.Model(self.model, keras=True),
                weights,
            )
        return shares.measure(losses, self._pass.states, batch, parts, 1)

    def get_metrics(self, states: reports.States) -> dict[str, Any]:
        """Returns the metrics and the reported values of summed states.

        Args:
            states: name -> sums over examples.
        """
        names = self.metrics.names
        own = {k: scores.divide(*s) for k, s in states.items() if k not in names}
        known = {k: s for k, s in states.items() if k in names}
        return self.metrics.compute(known) | own

    def get_state(self) -> dict[str, Any]:
        """Returns the objects to save in a checkpoint, by name."""
        return {"model": self.adapted.checkpoint, **self.updater.get_state()}
