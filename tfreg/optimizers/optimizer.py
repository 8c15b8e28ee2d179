"""The optimizer: a fused kernel, its slots, its learning rate and its step.

    optimizer = optimizers.adam(schedules.cosine(1e-3, num_steps=9_000))
    optimizer.build(model.trainable_variables)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)  # in a tf.function or out

The trap: a learning rate or a step held as a Python number is frozen at tracing. tfreg
holds the step in a variable, and a schedule is a function of it.
"""

import contextlib
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
        name: of its kind, for tables.

    Attributes:
        step: int64 scalar variable, the number of updates applied.
        rate: the learning rate, as given.
        weight_decay: as given.
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
        name: str = "optimizer",
    ) -> None:
        super().__init__(name)
        scopes.check_strategy()
        if not isinstance(learning_rate, tf.Variable) and not callable(learning_rate):
            learning_rate = _checks.check_float(
                "learning_rate", learning_rate, _RATE, as_float32=True
            )
        self.rate = learning_rate
        self.sums_over_replicas = False
        self._kernel, self._sparse, self._correct = kernel, sparse, correct
        self.takes_rows = sparse is not None
        self.weight_decay = _checks.check_float(
            "weight_decay", weight_decay, _checks.NONNEGATIVE, True
        )
        self._start_values = tuple(slots.items())
        self._built: tuple = ()
        self.slots: dict[str, list[tf.Variable]] = {slot: [] for slot in slots}
        self.step = make_step()
        self._clock: tuple = (self.step,)  # In a tuple it isn't saved again.

    def __repr__(self) -> str:
        rate = "a variable" if isinstance(self.rate, tf.Variable) else self.rate
        return f"{self.name}({f'{rate:g}' if isinstance(rate, float) else rate})"

    @scopes.do_not_convert
    def learning_rate(self) -> tf.Tensor:
        """Returns the learning rate of the next update, a float32 scalar."""
        rate = self.rate
        if callable(rate):
            rate = scopes.convert(rate)(self._clock[0].read_value())
        return tf.cast(rate, tf.float32)

    def follow(self, step: tf.Variable) -> None:
        """Takes the learning rate from another step, that of a whole training."""
        self._clock = (step,)

    def find(self, variable: tf.Variable) -> "Optimizer":
        """Returns the optimizer that updates a variable, which is this one."""
        del variable
        return self

    def list_slots(self) -> list[tf.Variable]:
        """Returns the variables that have slots, in the order of these."""
        return [reference.deref() for reference in self._built]

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
                self.slots[slot].extend(
                    [make_slot(w, slot, tf.fill(w.shape, value)) for w in new]
                )
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
            decay = rate * self.weight_decay if self.weight_decay else None
            self._update(self._built.index(w.ref()), w, gradient, lr, decay)
        count_update(self.step)

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


def make_step() -> tf.Variable:
    """Returns the number of updates applied, an int64 scalar variable, 0."""
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    zero = tf.zeros([], tf.int64)
    return tf.Variable(zero, False, name="step", aggregation=aggregation)


def count_update(step: tf.Variable) -> None:
    """Adds 1 to the number of updates applied."""
    # Through the handle: a compiled replica can't aggregate, so each counts.
    handle, one = _tensorflow.get_handle(step), tf.ones([], tf.int64)
    tf.raw_ops.AssignAddVariableOp(resource=handle, value=one)


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


def make_slot(variable: tf.Variable, slot: str, value: tf.Tensor) -> tf.Variable:
    """Returns a variable beside another one, on its devices; call it in `init_scope`.

    Args:
        variable: the other one.
        slot: last part of the name.
        value: initial value.
    """
    strategy = getattr(variable, "distribute_strategy", tf.distribute.get_strategy())
    inside = tf.distribute.has_strategy()  # A replica can't enter the scope again.
    scope = contextlib.nullcontext() if inside else strategy.scope()
    with scope, strategy.extended.colocate_vars_with(variable), tf.name_scope(""):
        return tf.Variable(
            tf.cast(value, variable.dtype),
            trainable=False,
            name=f"{variable.name.split(':')[0]}/{slot}",
            experimental_enable_variable_lifting=False,  # Lifting would trace twice.
        )
