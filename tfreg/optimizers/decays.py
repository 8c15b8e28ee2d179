"""Decoupled weight decay, of the variables that a rule names.

    tfreg.rules.apply("decay(1e-2)@bias", model)  # w -= learning_rate * 1e-2 * w
    cross_entropy = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, cross_entropy, tfreg.optimizers.adam(1e-3))

It hangs on its variables like a penalty, but has no value: the step applies it before
the optimizer's update. The traps: L2, whose gradient Adam divides by its own size, so
that it hardly decays; and a rate taken from a framework that couples it to the learning
rate in another way. See docs/decay.md.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import tensorflow as tf

from tfreg import _checks, _tensorflow
from tfreg.collections import scopes
from tfreg.optimizers import schedules

Rate: TypeAlias = float | tf.Variable | Callable[[Any], Any]

COUPLINGS = ("lr", "schedule", "step")
_open = threading.local()  # Whether a step that applies decays is running.


@contextlib.contextmanager
def applying() -> Iterator[None]:
    """Contains the step that applies the decays of its model's variables."""
    before = getattr(_open, "applies", False)
    _open.applies = True
    try:
        yield
    finally:
        _open.applies = before


@dataclasses.dataclass(frozen=True, eq=False)
class Decay:
    """Decoupled decay, in the place of a regularizer whose penalty is None.

    Attributes:
        rate: as for `decay`.
        by: as for `decay`.
    """

    rate: Rate
    by: str
    name: str = "decay"

    def __call__(self, weights: Any) -> None:
        """Returns None, no penalty.

        Raises:
            ValueError: a tape records, and no `tfreg.Step` applies the decay.
        """
        if not getattr(_open, "applies", False) and _tensorflow.is_recording():
            raise ValueError(
                f"{self!r} must be applied by a tfreg.Step, got a loss without one: "
                "train by tfreg.Step, or use tfreg.optimizers.adamw in its place"
            )

    def __repr__(self) -> str:
        return f"decay({self.rate!r}, by={self.by})"

    def get_fraction(self, step: tf.Tensor, rate: tf.Tensor, peak: Any) -> tf.Tensor:
        """Returns the fraction of the weights that an update subtracts, float32.

        Args:
            step: integer scalar, the number of updates applied.
            rate: the learning rate of the update.
            peak: the largest learning rate; None: not known.

        Raises:
            ValueError: the decay is coupled to the schedule, of an unknown peak.
        """
        decay = self.rate
        if callable(decay) and not isinstance(decay, tf.Variable):
            decay = decay(step)
        decay = tf.cast(decay, tf.float32)
        if self.by == "step":
            return decay
        if self.by == "lr":
            return decay * rate
        if peak is None:
            raise ValueError(
                f"{self!r} must know the largest learning rate, got a function of the "
                "step: use one of tfreg.optimizers.schedules or of Keras, or by='lr'"
            )
        return decay * (rate / peak)


def decay(rate: Rate, by: str = "lr") -> Decay:
    """Returns decoupled weight decay, for `layer.regularize` or in a rule.

    It subtracts a fraction of the weights before the optimizer's update, and isn't in
    the loss. The fraction is, at each update:

    - `lr`: `learning_rate * rate`, as in Keras and PyTorch;
    - `schedule`: `learning_rate / peak learning rate * rate`, as in the paper, where
      the decay follows the shape of the schedule and not its size;
    - `step`: `rate`.

    Args:
        rate: finite float >= 0, per update, for `lr` per unit of the learning rate; or
            a scalar tf.Variable; or a schedule.
        by: what it is coupled to: lr, schedule or step.

    Raises:
        ValueError: an argument is out of range.

    Source: Loshchilov & Hutter 2019; `torch.optim.AdamW`; Keras `AdamW`.
    """
    if by not in COUPLINGS:
        raise ValueError(
            f"by must be one of {', '.join(COUPLINGS)}, got {by!r}: write lr for the "
            "decay of Keras and PyTorch"
        )
    if not isinstance(rate, tf.Variable) and not callable(rate):
        rate = _checks.check_float("rate", rate, _checks.NONNEGATIVE)
    return Decay(rate, by)


@scopes.do_not_convert
def apply(
    decays: list[tuple[tf.Variable, Decay]], step: tf.Variable, find: Callable
) -> None:
    """Subtracts the decays from variables, in a replica from its own copies.

    Args:
        decays: variables and their decays.
        step: the number of updates applied.
        find: variable -> the optimizer that updates it.
    """
    for variable, each in decays:
        optimizer = find(variable)
        peak = schedules.get_peak(optimizer.rate)
        args = step.read_value(), optimizer.learning_rate(), peak
        fraction = tf.cast(each.get_fraction(*args), variable.dtype)
        tf.raw_ops.AssignSubVariableOp(
            resource=_tensorflow.get_handle(variable),
            value=fraction * variable.read_value(),
        )
