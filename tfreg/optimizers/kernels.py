"""Gradient descent with TensorFlow's fused kernels: eagerly, in graphs and in XLA.

    optimizers.adam(1e-3).apply(gradients, model.trainable_variables)
    rate = tfreg.schedules.cosine(1e-3, num_steps=9_000)
    optimizers.adamw(rate, weight_decay=0.01)

The trap: the same name for other numbers. Each docstring has the formula, and says
where Keras, torch and TF1 differ.

IndexedSlices, the gradient of `tf.gather`, update only the rows that were looked up, in
a time that doesn't depend on the size of the table.
"""

import functools
import math

import tensorflow as tf

from tfreg import _checks
from tfreg.optimizers import rows
from tfreg.optimizers.optimizer import LearningRate, Optimizer


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

    return Optimizer(kernel, {}, learning_rate, sparse=rows.descend, name="sgd")


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
    return Optimizer(
        kernel, {"accum": 0.0}, learning_rate, sparse=sparse, name="momentum"
    )


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
    name = "adamw" if weight_decay else "adam"
    return Optimizer(kernel, slots, learning_rate, correct, weight_decay, sparse, name)


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
    slots = {"ms": start, "mom": 0.0}
    return Optimizer(kernel, slots, learning_rate, sparse=sparse, name="rmsprop")


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
    slots = {"accum": start}
    return Optimizer(kernel, slots, learning_rate, sparse=sparse, name="adagrad")
