"""create_train_op and optimize_loss, which return a function for one training step.

    train_step = tf1.create_train_op(total_loss, optimizer, clip_gradient_norm=5.0)
    loss = tf.function(train_step)(x, y)  # total_loss(x, y), and an update
    loss = strategy.reduce("SUM", strategy.run(train_step, (x, y)), axis=None)

The order is slim's: sum the gradients over the replicas, multiply them, clip each by
its norm, apply them. The trap: on replicas each total has every penalty, and their sum
counts it once per replica. So a total must be the replica's share; another one raises.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import optimizers
from tfreg.collections import scopes, store
from tfreg.optimizers import gradients
from tfreg.tf1 import collecting, transforms, variables
from tfreg.tf1.transforms import Multipliers, Pairs, Transform

v1 = tf.compat.v1.train
_USE_GLOBAL_STEP = 0  # slim's name of the default.
_OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "Adagrad": v1.AdagradOptimizer,
    "Adam": v1.AdamOptimizer,
    "Ftrl": v1.FtrlOptimizer,
    "Momentum": functools.partial(v1.MomentumOptimizer, momentum=0.9),
    "RMSProp": v1.RMSPropOptimizer,
    "SGD": v1.GradientDescentOptimizer,
}


@dataclasses.dataclass(frozen=True, eq=False)
class TrainStep:
    """One training step: called with a batch, it updates and returns the loss.

    Attributes:
        total_loss: function of a batch -> scalar loss.
        optimizer: of tfreg, `tf.compat.v1.train` or Keras.
        transform: pairs of gradient and variable -> the pairs to apply.
        variables: as `variables_to_train` of `create_train_op`.
        global_step: as for `create_train_op`.
        count: number of calls, which dropout needs where nothing else counts them.
        increments: whether to increment the global step.
        check_numerics: as for `create_train_op`.
        summarizes: whether to summarize the gradients.
    """

    total_loss: Callable[..., tf.Tensor]
    optimizer: Any
    transform: Transform
    variables: Sequence[tf.Variable] | Callable[[], Sequence[tf.Variable]] | None
    global_step: tf.Variable | int | None
    count: tf.Variable | None
    increments: bool
    check_numerics: bool
    summarizes: bool

    @scopes.do_not_convert
    def __call__(self, *args: Any, **kwargs: Any) -> tf.Tensor:
        """Updates the variables once.

        Args:
            *args: arguments of `total_loss`.
            **kwargs: arguments of `total_loss`.

        Returns:
            The loss before the update, in a replica the replica's share of it.

        Raises:
            ValueError: the loss isn't a scalar, or on replicas not a share; there are
                no variables to train, or they have no gradients.
        """
        step = self._find_step()
        number = getattr(self.optimizer, "step", self.count) if step is None else step
        with scopes.step_scope(number), tf.GradientTape() as tape:
            loss = _check_loss(self.total_loss(*args, **kwargs))
        trained = self._list_variables()
        summed = gradients.sum_over_replicas(tape.gradient(loss, trained))
        pairs = self.transform(list(zip(summed, trained, strict=True)))
        if self.summarizes:
            transforms.summarize(pairs, step)
        if self.check_numerics:
            loss = tf.debugging.check_numerics(loss, "LossTensor is inf or nan")
        with tf.control_dependencies([loss]):  # No update if the check fails.
            _apply(self.optimizer, pairs)
            if step is not None and self.increments:
                step.assign_add(1)
            elif step is None and number is self.count and number is not None:
                number.assign_add(1)
        return loss

    def _find_step(self) -> tf.Variable | None:
        step = self.global_step
        if step is _USE_GLOBAL_STEP:
            step = collecting.get_or_create_global_step()
        mirrored = isinstance(step, tf.distribute.DistributedValues)
        if step is not None and scopes.count_replicas() > 1 and not mirrored:
            raise ValueError(
                "global_step must be created in strategy.scope(), got one that each "
                "replica would increment: call tf1.get_or_create_global_step() there"
            )
        return step  # type: ignore[return-value]

    def _list_variables(self) -> list[tf.Variable]:
        given = self.variables
        trained = variables.trainable_variables() if given is None else given
        trained = list(trained() if callable(trained) else trained)
        if not trained:
            raise ValueError(
                "variables_to_train must hold variables, got none: pass a function "
                "that lists them after the model's first call has created them, such "
                "as lambda: tf1.trainable_variables(scope)"
            )
        return trained


def _make_count(step: Any) -> tf.Variable | None:
    """Returns a count of the calls, None if the global step is one."""
    if step is not None:
        return None
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    with tf.init_scope():
        zero = tf.zeros([], tf.int64)
        return tf.Variable(zero, trainable=False, name="count", aggregation=first)


def _check_loss(loss: Any) -> tf.Tensor:
    if not tf.is_tensor(loss) or loss.shape.rank != 0:
        raise ValueError(
            f"total_loss must return a scalar tensor, got {loss!r}: reduce it to one"
        )
    if scopes.count_replicas() > 1 and not getattr(loss, "_tfreg_is_share", False):
        raise ValueError(
            "total_loss must return the replica's share of the total, got a tensor "
            "whose penalties would count once per replica: return "
            "tf1.losses.get_total_loss() or tfreg.losses.total_loss(data_loss)"
        )
    return loss


def _apply(optimizer: Any, pairs: Pairs) -> None:
    """Applies gradients that are summed over the replicas."""
    if isinstance(optimizer, optimizers.Optimizer):
        summed, trained = zip(*pairs, strict=True)
        optimizer.apply(summed, trained, summed=True)
        for variable in trained:  # The other optimizers do it themselves.
            if (constraint := getattr(variable, "constraint", None)) is not None:
                optimizers.assign(variable, constraint(variable.read_value()))
        return
    # The other optimizers sum over the replicas, each of which has the sum already.
    replicas = scopes.count_replicas()
    shared = [
        (transforms.scale(g, 1 / replicas) if replicas > 1 else g, v) for g, v in pairs
    ]
    optimizer.apply_gradients([(g, v) for g, v in shared if g is not None])


def create_train_op(
    total_loss: Callable[..., tf.Tensor],
    optimizer: Any,
    global_step: Any = _USE_GLOBAL_STEP,
    *,
    variables_to_train: Any = None,
    clip_gradient_norm: float = 0,
    summarize_gradients: bool = False,
    gradient_multipliers: Multipliers | None = None,
    check_numerics: bool = True,
    transform_grads_fn: Transform | None = None,
) -> TrainStep:
    """Returns a function for one training step: a batch -> its loss.

    It works eagerly, in a tf.function and in `strategy.run`, where the gradients are
    summed over the replicas first.

    Args:
        total_loss: function of a batch -> scalar loss; on replicas the result of
            `tf1.losses.get_total_loss`.
        optimizer: of tfreg, `tf.compat.v1.train` or Keras.
        global_step: integer variable, incremented by each step; by default the store's;
            None: none.
        variables_to_train: a list, or a function that returns one; None: the trainable
            variables of the store's TF1 models.
        clip_gradient_norm: largest norm of each variable's gradient; 0: no clipping.
        summarize_gradients: whether to write each gradient and its norm to
            `tf.summary`.
        gradient_multipliers: a variable's name or `variable.ref()` -> multiplier,
            applied before the clipping.
        check_numerics: whether a loss that isn't finite raises before the update; not
            with XLA.
        transform_grads_fn: pairs of gradient and variable -> the pairs to apply, called
            after the clipping.

    Source: `slim.learning.create_train_op`, `tf.contrib.training.create_train_op`.
    """
    clip = functools.partial(
        transforms.clip_gradient_norms, max_norm=clip_gradient_norm
    )
    return TrainStep(
        total_loss=total_loss,
        optimizer=optimizer,
        transform=transforms.chain(
            gradient_multipliers,
            clip if clip_gradient_norm > 0 else None,
            transform_grads_fn,
        ),
        variables=variables_to_train,
        global_step=global_step,
        count=_make_count(global_step),
        increments=True,
        check_numerics=check_numerics,
        summarizes=summarize_gradients,
    )


def optimize_loss(
    loss: Callable[..., tf.Tensor],
    global_step: tf.Variable | None,
    learning_rate: Any,
    optimizer: Any,
    *,
    gradient_multipliers: Multipliers | None = None,
    clip_gradients: float | Transform | None = None,
    learning_rate_decay_fn: Callable[..., Any] | None = None,
    variables: Any = None,
    increment_global_step: bool = True,
) -> TrainStep:
    """Returns a function for one training step: a batch -> its loss.

    Args:
        loss: function of a batch -> scalar loss; on replicas the result of
            `tf1.losses.get_total_loss`.
        global_step: integer variable, incremented by each step; None: the store's, if
            it has one.
        learning_rate: a float, a scalar tensor or a variable; None: the optimizer's.
        optimizer: Adagrad, Adam, Ftrl, Momentum, RMSProp or SGD; a class or function
            that takes the learning rate, if there is one; or an optimizer.
        gradient_multipliers: a variable's name or `variable.ref()` -> multiplier,
            applied before the clipping.
        clip_gradients: largest global norm of the gradients; or a function, pairs of
            gradient and variable -> the pairs to apply; None: no clipping.
        learning_rate_decay_fn: (learning rate, global step) -> learning rate.
        variables: as `variables_to_train` of `create_train_op`.
        increment_global_step: whether to increment the global step.

    Raises:
        ValueError: an optimizer, a learning rate or a decay that isn't as above.

    Source: `tf.contrib.layers.optimize_loss`.
    """
    if global_step is None:
        steps = store.get_default_store().get_collection(store.GraphKeys.GLOBAL_STEP)
        global_step = steps[0] if steps else None
    if learning_rate_decay_fn is not None and global_step is None:
        raise ValueError(
            "global_step must be given for learning_rate_decay_fn, got None: call "
            "tf1.get_or_create_global_step()"
        )
    decay = learning_rate_decay_fn and functools.partial(
        _decay, learning_rate_decay_fn, learning_rate, global_step
    )
    clip: Any = clip_gradients
    if not (clip is None or callable(clip)):
        clip = functools.partial(transforms.clip_by_global_norm, max_norm=clip)
    return TrainStep(
        total_loss=loss,
        optimizer=_build_optimizer(optimizer, learning_rate, decay),
        transform=transforms.chain(gradient_multipliers, clip),
        variables=variables,
        global_step=global_step,
        count=_make_count(global_step),
        increments=increment_global_step,
        check_numerics=False,
        summarizes=False,
    )


def _decay(
    function: Callable[..., Any], learning_rate: Any, step: Any, number: Any = None
) -> tf.Tensor:
    """Returns the current rate; tfreg's optimizers pass the step, TF1's don't."""
    rate = function(learning_rate, step if number is None else number)
    return rate() if callable(rate) else rate  # TF1's decays are, in eager code.


def _build_optimizer(
    optimizer: Any, learning_rate: Any, decay: Callable[..., tf.Tensor] | None
) -> Any:
    real = isinstance(learning_rate, float) and learning_rate >= 0
    if not (learning_rate is None or real or tf.is_tensor(learning_rate)):
        raise ValueError(
            "learning_rate must be a float >= 0, a scalar tensor or variable, or None, "
            f"got {learning_rate!r}: write for example 0.01"
        )
    rate = learning_rate if decay is None or learning_rate is None else decay
    if isinstance(optimizer, optimizers.Optimizer) or (
        hasattr(optimizer, "apply_gradients") and not isinstance(optimizer, type)
    ):
        return optimizer
    kind = _OPTIMIZERS.get(optimizer) if isinstance(optimizer, str) else optimizer
    if not callable(kind):
        raise ValueError(
            f"optimizer must be one of {', '.join(_OPTIMIZERS)}, a class, a function "
            f"or an optimizer, got {optimizer!r}: choose one of them"
        )
    if rate is None and (kind is not optimizer or isinstance(kind, type)):
        raise ValueError(
            f"learning_rate must be given for the optimizer {optimizer!r}, got None: "
            "write for example 0.01"
        )
    return kind() if rate is None else kind(rate)
