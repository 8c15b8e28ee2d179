"""Gradient descent with TensorFlow's fused kernels: eagerly, in graphs and in XLA.

    optimizer = optimizers.adam(schedules.cosine(1e-3, num_steps=9_000))
    optimizer.build(model.trainable_variables)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)  # in a tf.function or out

The trap: a learning rate or a step held as a Python number is frozen at tracing. tfreg
holds the step in a variable, and a schedule is a function of it.

IndexedSlices, the gradient of `tf.gather`, update only the rows that were looked up, in
a time that doesn't depend on the size of the table.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import tensorflow as tf

from tfreg import _checks, _tensorflow
from tfreg.collections import scopes
from tfreg.optimizers import gradients as sums
from tfreg.optimizers import rows, schedules

LearningRate: TypeAlias = float | tf.Variable | schedules.Schedule

_RATE = "> 0, a tf.Variable or a schedule"


class Optimizer(tf.Module):
    """Updates variables with a TensorFlow kernel, and counts the updates.

    Args:
        kernel: raw op with its hyperparameters bound; takes var, lr, grad and slots.
        slots: name of a slot -> its initial value.
        learning_rate: finite float > 0, a floating scalar variable, or a schedule:
            int64 scalar, the number of updates applied -> float32 scalar.
        correct: (learning rate, number of updates applied) -> the kernel's lr.
        weight_decay: finite float >= 0; first, `w -= learning_rate * weight_decay * w`.
        sparse: kernel for IndexedSlices, from `rows.make_kernel`. None converts them to
            dense gradients, which update every row of the table.

    Attributes:
        step: int64 scalar variable, the number of updates applied.
        slots: name of a slot -> its variables, in the order of `build`.
        takes_rows: whether IndexedSlices update only the rows looked up.
        sums_over_replicas: whether an update of summed gradients sums them again.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        kernel: Callable[..., object],
        slots: Mapping[str, float],
        learning_rate: LearningRate,
        correct: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
        weight_decay: float = 0.0,
        sparse: rows.Kernel | None = None,
    ) -> None:
        super().__init__()
        scopes.check_strategy()
        if not isinstance(learning_rate, tf.Variable) and not callable(learning_rate):
            learning_rate = _checks.check_float(
                "learning_rate", learning_rate, _RATE, as_float32=True
            )
        self._learning_rate = learning_rate
        self.sums_over_replicas = False
        self._kernel, self._sparse, self._correct = kernel, sparse, correct
        self.takes_rows = sparse is not None
        self._weight_decay = _checks.check_float(
            "weight_decay", weight_decay, _checks.NONNEGATIVE, True
        )
        self._start_values = tuple(slots.items())
        self._built: tuple = ()
        self.slots: dict[str, list[tf.Variable]] = {slot: [] for slot in slots}
        aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
        zero = tf.zeros([], tf.int64)
        self.step = tf.Variable(zero, False, name="step", aggregation=aggregation)

    def learning_rate(self) -> tf.Tensor:
        """Returns the learning rate of the next update, a float32 scalar."""
        rate = self._learning_rate
        rate = rate(self.step.read_value()) if callable(rate) else rate
        return tf.cast(rate, tf.float32)

    @scopes.do_not_convert
    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Creates the slots of the variables that have none.

        The slots of other variables, for example of frozen layers, are kept.

        Args:
            variables: float32 or float64 variables, without duplicates.

        Raises:
            TypeError: a variable isn't a tf.Variable, or has another dtype.
            ValueError: a variable is listed twice.
        """
        _check_variables(variables)
        new = [w for w in variables if w.ref() not in self._built]
        if not new:
            return
        with tf.init_scope():
            for slot, value in self._start_values:
                # Extended, not replaced: a deferred restore is bound to the list.
                self.slots[slot].extend([_make_slot(w, slot, value) for w in new])
        self._built = (*self._built, *(w.ref() for w in new))

    def apply(
        self,
        gradients: Sequence[tf.Tensor | tf.IndexedSlices | None],
        variables: Sequence[tf.Variable],
        summed: bool = False,
    ) -> None:
        """Applies one update to the variables, and increments `step`.

        Missing slots are built. In `strategy.run` the gradients of all replicas are
        summed first.

        Args:
            gradients: one per variable, of its shape and dtype. None leaves a variable
                and its slots unchanged. If the optimizer `takes_rows`, IndexedSlices
                leave all other rows unchanged.
            variables: as for `build`; mirrored variables only inside `strategy.run`,
                with an optimizer created in the same `strategy.scope()`.
            summed: whether the gradients are sums over all replicas already.

        Raises:
            TypeError: as for `build`.
            ValueError: as for `build`; the lists differ in length; or every gradient is
                None.
            RuntimeError: variables are mirrored and the conditions above don't hold.
        """
        num_none = sum(gradient is None for gradient in gradients)
        if len(gradients) != len(variables) or num_none == len(gradients):
            raise ValueError(
                f"gradients must be {len(variables)} and not all None, got "
                f"{len(gradients)}, None {num_none} times: pass what the tape returned"
            )
        self.build(variables)
        _check_context([*variables, self.step])
        if not summed:
            gradients = sums.sum_over_replicas(gradients)
        rate = lr = self.learning_rate()
        if self._correct is not None:
            lr = self._correct(rate, self.step.read_value())
        for gradient, w in zip(gradients, variables, strict=True):
            if gradient is None:
                continue
            decay = rate * self._weight_decay if self._weight_decay else None
            self._update(self._built.index(w.ref()), w, gradient, lr, decay)
        # Through the handle: a compiled replica can't aggregate, so each counts.
        step, one = _tensorflow.get_handle(self.step), tf.ones([], tf.int64)
        tf.raw_ops.AssignAddVariableOp(resource=step, value=one)

    @scopes.do_not_convert
    def _update(
        self,
        place: int,
        w: tf.Variable,
        gradient: tf.Tensor | tf.IndexedSlices,
        lr: tf.Tensor,
        decay: tf.Tensor | None,
    ) -> None:
        handle, lr = _tensorflow.get_handle(w), tf.cast(lr, w.dtype)
        slots = {
            slot: _tensorflow.get_handle(created[place])
            for slot, created in self.slots.items()
        }
        decay = None if decay is None else tf.cast(decay, w.dtype)
        if self._sparse is not None and isinstance(gradient, tf.IndexedSlices):
            decays = {} if decay is None else {"decay": decay}
            self._sparse(var=handle, lr=lr, grad=gradient, **decays, **slots)
            return
        if decay is not None:
            value = decay * w.read_value()
            tf.raw_ops.AssignSubVariableOp(resource=handle, value=value)
        dense = tf.convert_to_tensor(gradient, w.dtype)
        self._kernel(var=handle, lr=lr, grad=dense, **slots)


def sgd(learning_rate: LearningRate) -> Optimizer:
    """Returns gradient descent: `w -= learning_rate * g`.

    IndexedSlices update only the rows that they name.

    Args:
        learning_rate: as for `Optimizer`, in weight per gradient.

    Raises:
        ValueError: `learning_rate` is out of range.

    Source: `tf.compat.v1.train.GradientDescentOptimizer`.
    """

    def kernel(var, lr, grad):
        tf.raw_ops.ResourceApplyGradientDescent(var=var, alpha=lr, delta=grad)

    return Optimizer(kernel, {}, learning_rate, sparse=rows.descend)


def momentum(
    learning_rate: LearningRate, momentum: float = 0.9, nesterov: bool = False
) -> Optimizer:
    """Returns momentum: `accum = momentum * accum + g; w -= learning_rate * accum`.

    IndexedSlices change only the rows and the accum that they name.

    Args:
        learning_rate: as for `Optimizer`, in weight per gradient.
        momentum: float in [0, 1), decay rate of accum.
        nesterov: whether to look ahead: `w -= learning_rate * (g + momentum * accum)`.

    Raises:
        ValueError: a number is out of range.

    Source: `tf.compat.v1`, torch. Keras sums `learning_rate * g`, which differs if the
        rate changes.
    """
    momentum = _checks.check_fraction("momentum", momentum, True)
    kernel = functools.partial(
        tf.raw_ops.ResourceApplyMomentum, momentum=momentum, use_nesterov=nesterov
    )
    sparse = rows.make_kernel(rows.momentum(momentum, nesterov))
    return Optimizer(kernel, {"accum": 0.0}, learning_rate, sparse=sparse)


def adam(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    lazy: bool = False,
) -> Optimizer:
    """Returns Adam: `adamw` without decay, with the same arguments and errors.

    Source: Keras `Adam`; `tf.compat.v1.train.AdamOptimizer` with `epsilon=1e-8`.
    """
    return adamw(learning_rate, beta_1, beta_2, epsilon, 0.0, lazy)


def adamw(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 4e-3,
    lazy: bool = False,
) -> Optimizer:
    """Returns Adam with decoupled weight decay.

    `w -= learning_rate * (c * m / (sqrt(v) + epsilon) + weight_decay * w)`, where
    `c = sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)` at update t = 1, 2, ... torch adds
    its epsilon to the corrected root; TensorFlow Addons decays by `weight_decay * w`.

    Args:
        learning_rate: as for `Optimizer`, in weight per update.
        beta_1: float in [0, 1), decay rate of m, the mean gradient.
        beta_2: float in [0, 1), decay rate of v, the mean squared gradient.
        epsilon: finite float > 0, in units of the gradient.
        weight_decay: finite float >= 0, per unit of learning rate; 0.0 is no decay.
        lazy: whether IndexedSlices change only the rows, m and v that they name, and
            decay no others. It is faster and no longer Adam, which updates every row by
            its m.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras `AdamW`, `torch.optim.AdamW`; lazy: TensorFlow Addons `LazyAdam`.
    """
    beta_1 = _checks.check_fraction("beta_1", beta_1, True)
    beta_2 = _checks.check_fraction("beta_2", beta_2, True)
    epsilon = _checks.check_float("epsilon", epsilon, as_float32=True)
    fused = functools.partial(
        tf.raw_ops.ResourceApplyAdam, beta1=beta_1, beta2=beta_2, epsilon=epsilon
    )
    log_1, log_2 = (math.log(beta) if beta else -math.inf for beta in (beta_1, beta_2))

    def correct(rate, step):
        rate, t = tf.cast(rate, tf.float64), tf.cast(step + 1, tf.float64)
        # In float32 1 - 0.999 ** t has four digits; variables may be float64.
        return -rate * tf.sqrt(-tf.math.expm1(t * log_2)) / tf.math.expm1(t * log_1)

    def kernel(var, m, v, lr, grad):
        zero = tf.zeros_like(lr)  # `correct` includes the powers of beta in lr.
        fused(var=var, m=m, v=v, beta1_power=zero, beta2_power=zero, lr=lr, grad=grad)

    slots = {"m": 0.0, "v": 0.0}
    sparse = rows.make_kernel(rows.adam(beta_1, beta_2, epsilon)) if lazy else None
    return Optimizer(kernel, slots, learning_rate, correct, weight_decay, sparse)


def rmsprop(
    learning_rate: LearningRate = 1e-3,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-7,
    initial_mean_square: float = 0.0,
) -> Optimizer:
    """Returns RMSProp: `mom = momentum * mom + learning_rate * g / sqrt(ms + epsilon)`.

    Then `w -= mom`. IndexedSlices change only the rows, mom and ms that they name.

    Args:
        learning_rate: as for `Optimizer`, in weight per update.
        rho: float in [0, 1), decay rate of ms, the mean squared gradient.
        momentum: float in [0, 1), decay rate of mom.
        epsilon: finite float > 0, in units of the squared gradient.
        initial_mean_square: finite float >= 0, initial value of ms.

    Raises:
        ValueError: an argument is out of range.

    Source: Keras; `tf.compat.v1` with `epsilon=1e-10, initial_mean_square=1.0`.
    """
    rho = _checks.check_fraction("rho", rho, True)
    momentum = _checks.check_fraction("momentum", momentum, True)
    epsilon = _checks.check_float("epsilon", epsilon, as_float32=True)
    kernel = functools.partial(
        tf.raw_ops.ResourceApplyRMSProp, rho=rho, momentum=momentum, epsilon=epsilon
    )
    sparse = rows.make_kernel(rows.rmsprop(rho, momentum, epsilon))
    start = _checks.check_float(
        "initial_mean_square", initial_mean_square, _checks.NONNEGATIVE, True
    )
    return Optimizer(kernel, {"ms": start, "mom": 0.0}, learning_rate, sparse=sparse)


def adagrad(
    learning_rate: LearningRate = 1e-3,
    initial_accumulator_value: float = 0.1,
    epsilon: float = 1e-7,
) -> Optimizer:
    """Returns `accum += g ** 2; w -= learning_rate * g / (sqrt(accum) + epsilon)`.

    Args:
        learning_rate: as for `Optimizer`, in weight per update.
        initial_accumulator_value: finite float >= 0, initial value of accum.
        epsilon: finite float > 0, in units of the gradient; Keras adds it in the root.

    Raises:
        ValueError: an argument is out of range.

    Source: `torch.optim.Adagrad`; `tf.compat.v1.train.AdagradOptimizer` has no epsilon.
    """
    epsilon = _checks.check_float("epsilon", epsilon, as_float32=True)
    kernel = functools.partial(tf.raw_ops.ResourceApplyAdagradV2, epsilon=epsilon)
    start = _checks.check_float(
        "initial_accumulator_value",
        initial_accumulator_value,
        _checks.NONNEGATIVE,
        True,
    )
    sparse = rows.make_kernel(rows.adagrad(epsilon))
    return Optimizer(kernel, {"accum": start}, learning_rate, sparse=sparse)


def _check_variables(variables: Sequence[tf.Variable]) -> None:
    for w in variables:
        if not isinstance(w, tf.Variable) or w.dtype not in (tf.float32, tf.float64):
            raise TypeError(
                f"variables must be float32 or float64 tf.Variables, got {w!r}: "
                "cast where they are used; of a keras.Variable pass .value"
            )
    if len({w.ref() for w in variables}) < len(variables):
        raise ValueError(
            f"variables must be named once, got {[w.name for w in variables]}: leave "
            "out the second"
        )


@scopes.do_not_convert
def _check_context(variables: Sequence[tf.Variable]) -> None:
    strategies = {getattr(w, "distribute_strategy", None) for w in variables}
    replica = tf.distribute.get_replica_context()
    if strategies != {None} and strategies != {replica and replica.strategy}:
        raise RuntimeError(
            f"apply must be called in a replica of one strategy, got {strategies} and "
            f"{replica}: make all in strategy.scope(), call apply inside strategy.run"
        )


def _make_slot(variable: tf.Variable, slot: str, value: float) -> tf.Variable:
    strategy = getattr(variable, "distribute_strategy", tf.distribute.get_strategy())
    inside = tf.distribute.has_strategy()  # A replica can't enter the scope again.
    scope = contextlib.nullcontext() if inside else strategy.scope()
    with scope, strategy.extended.colocate_vars_with(variable), tf.name_scope(""):
        return tf.Variable(
            tf.fill(variable.shape, tf.cast(value, variable.dtype)),
            trainable=False,
            name=f"{variable.name.split(':')[0]}/{slot}",
            experimental_enable_variable_lifting=False,  # Lifting would trace twice.
        )
