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
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks, losses, optimizers
from tfreg.collections import ownership, scopes, terms, totals
from tfreg.optimizers import gradients
from tfreg.training import metrics
from tfreg.training import precision as precisions


class Step:
    """A training or evaluation step, for any model, loss and optimizer.

    The penalties are those of the model. An update sums the gradients over microbatches
    and replicas, adds those of the weight penalties, clips the sum and applies it.

    Args:
        model: callable (x, training=...) -> outputs, with `trainable_variables`.
        data_loss: callable (y, outputs) -> losses `[batch, ...]`; a Keras loss is taken
            per example, whatever its reduction. It says what the targets are, and so
            which accuracy is reported.
        optimizer: of `tfreg.optimizers`.
        clip_norm: largest global norm of the gradient, of data and penalties and of all
            replicas together; None: no clipping.
        seed: seed of dropout, together with the number of the step.
        accumulate: number of microbatches that a batch is split into, to save memory.
            The update is that of the full batch, except for BatchNorm's statistics.
        precision: the model's dtype: float32, bfloat16 or float16. Variables, losses
            and penalties are float32. float16 has a `loss_scale`, and skips an update
            that overflows.

    Raises:
        ValueError: an argument has an invalid value.
        TypeError: the optimizer isn't one of `tfreg.optimizers`.
    """

    def __init__(
        self,
        model: Any,
        data_loss: losses.DataLoss,
        optimizer: optimizers.Optimizer,
        clip_norm: float | None = None,
        seed: int = 0,
        accumulate: int = 1,
        precision: str = "float32",
    ) -> None:
        if clip_norm is not None:
            clip_norm = _checks.check_float("clip_norm", clip_norm)
        scopes.check_strategy()
        _check_optimizer(optimizer)
        if precision not in precisions.DTYPES:
            raise ValueError(
                f"precision must be one of {', '.join(precisions.DTYPES)}, got "
                f"{precision!r}: choose one of them"
            )
        self.model = model
        self.data_loss = losses.take_each(data_loss)
        self._targets, self._threshold = losses.find_targets(data_loss)
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.seed = seed
        self.accumulate = _checks.check_int("accumulate", accumulate)
        self.dtype = precisions.DTYPES[precision]
        self.loss_scale = precisions.LossScale() if precision == "float16" else None

    def __call__(self, x: tf.Tensor, y: tf.Tensor) -> metrics.Report:
        """Updates the model once; in `strategy.run` by the gradients of all replicas.

        Args:
            x: inputs `[batch, ...]` of this replica.
            y: targets `[batch, ...]`.

        Returns:
            The losses of `compute_gradients` and the values of `update`.
        """
        grads, reported = self.compute_gradients(x, y)
        update = self.update(gradients.sum_over_replicas(grads))
        return metrics.Report(*reported, *update)

    def compute_gradients(
        self, x: tf.Tensor, y: tf.Tensor, global_batch_size: int | None = None
    ) -> tuple[list[gradients.Gradient], metrics.Losses]:
        """Returns this replica's share of the gradients and losses.

        Args:
            x: inputs `[batch, ...]`.
            y: targets `[batch, ...]`.
            global_batch_size: number of examples on all replicas; None: the sum over
                the replicas.

        Returns:
            One gradient per trainable variable, times the loss scale if there is one,
            without the weight penalties, which `update` adds; IndexedSlices only where
            the optimizer `takes_rows`. And the losses, whose sum over the replicas is
            that of the global batch.
        """
        if self.accumulate == 1:
            return self._compute_part(x, y, global_batch_size, 0)
        size: Any = global_batch_size
        num_rows = tf.shape(x)[0]
        if size is None:
            # Microbatches have different sizes, and each needs the global one.
            (size,) = gradients.sum_over_replicas([num_rows])
        bounds = [num_rows * k // self.accumulate for k in range(self.accumulate + 1)]
        first = slice(bounds[1])
        grads, reported = self._compute_part(x[first], y[first], size, 0)
        for k in range(1, self.accumulate):
            rows = slice(bounds[k], bounds[k + 1])
            more, part = self._compute_part(x[rows], y[rows], size, k)
            grads = list(map(gradients.add, grads, more))
            reported = tf.nest.map_structure(tf.add, reported, part)
        return grads, reported

    def _compute_part(
        self, x: tf.Tensor, y: tf.Tensor, global_batch_size: Any, microbatch: int
    ) -> tuple[list[gradients.Gradient], metrics.Losses]:
        with self._scope(microbatch), tf.GradientTape() as tape:
            outputs = self.model(self._cast(x), training=True)
            parts = totals.split_total(
                self._compute_loss(y, outputs),
                self.model,
                global_batch_size=global_batch_size,
                microbatches=self.accumulate,
            )
            total = self._scale(parts.without_terms)
        grads = tape.gradient(total, self.model.trainable_variables)
        if not self.optimizer.takes_rows:
            grads = gradients.make_dense(grads)
        return grads, self._report(y, outputs, parts)

    def _compute_loss(self, y: tf.Tensor, outputs: Any) -> tf.Tensor:
        data_loss = self.data_loss(y, outputs)
        if getattr(data_loss, "shape", None) == ():
            raise ValueError(
                "data_loss must return the losses of the examples, [batch, ...], got a "
                "scalar: leave its mean out, or pass the Keras loss itself"
            )
        return data_loss

    @scopes.do_not_convert
    def _report(
        self, y: tf.Tensor, outputs: Any, parts: totals.Parts
    ) -> metrics.Losses:
        accuracy = metrics.measure_accuracy(y, outputs, self._targets, self._threshold)
        return metrics.measure(accuracy, parts)

    @scopes.do_not_convert
    def _scale(self, total: tf.Tensor) -> tf.Tensor:
        return total if self.loss_scale is None else self.loss_scale.multiply(total)

    @scopes.do_not_convert
    def _differentiate_terms(self) -> list[gradients.Gradient]:
        """Returns the gradients of the weight penalties, times the loss scale."""
        with self._scope(), tf.GradientTape() as tape:
            model = ownership.Model(self.model)
            values = [term(model.ids) for term in model.get_terms()]
            total = terms.add_up([value for value in values if value is not None])
            total = None if total is None else self._scale(total)
        if total is None:
            return [None] * len(self.model.trainable_variables)
        return tape.gradient(total, self.model.trainable_variables)

    @contextlib.contextmanager
    def _scope(self, microbatch: int = 0) -> Iterator[None]:
        # Each microbatch has another dropout mask: its seed is far from other seeds.
        seed = self.seed + 2**32 * microbatch
        with scopes.step_scope(self.optimizer.step, seed):
            yield

    @scopes.do_not_convert
    def _cast(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        return tf.cast(x, self.dtype) if x.dtype.is_floating else x

    def update(self, summed: Sequence[gradients.Gradient]) -> metrics.Update:
        """Adds the gradients of the weight penalties, clips the sum and applies it.

        Args:
            summed: the gradients, summed over the replicas.

        Returns:
            The norm of the gradients, the learning rate, and the loss scale.
        """
        scale = self.loss_scale
        summed = list(map(gradients.add, summed, self._differentiate_terms()))
        if scale is not None:
            summed, finite = scale.divide(summed)
        norm = gradients.global_norm(summed)
        reported = metrics.Update(norm, self.optimizer.learning_rate())
        if self.clip_norm is not None:
            summed, _ = tf.clip_by_global_norm(summed, self.clip_norm, norm)
        variables = self.model.trainable_variables
        if scale is None:
            self.optimizer.apply(summed, variables, summed=True)
            return reported

        def apply() -> tf.Tensor:
            self.optimizer.apply(summed, variables, summed=True)
            return tf.constant(True)

        self.optimizer.build(variables)  # Variables can't be created in the branch.
        tf.cond(finite, apply, lambda: tf.constant(False))
        scale.update(finite)
        skipped = tf.cast(scale.num_skipped.read_value(), tf.float32)
        return reported._replace(
            gradient_norm=tf.where(finite, norm, 0.0),
            loss_scale=scale.scale.read_value(),
            skipped_updates=skipped,
        )

    def evaluate(self, x: tf.Tensor, y: tf.Tensor) -> metrics.Losses:
        """Returns the losses, as `compute_gradients`, without changing the model."""
        with self._scope():
            outputs = self.model(self._cast(x), training=False)
            parts = totals.split_total(self._compute_loss(y, outputs), self.model)
        return self._report(y, outputs, parts)


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, optimizers.Optimizer):
        raise TypeError(
            "optimizer must be one of tfreg.optimizers, got a "
            f"{type(optimizer).__name__}: write for example tfreg.optimizers."
            "adam(1e-3), or your own loop for a Keras optimizer"
        )
