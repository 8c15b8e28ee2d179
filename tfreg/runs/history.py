"""What a training remembers besides its variables, and what it monitors.

    monitor = history.Monitor("validation/accuracy")
    monitor.is_better(0.98, than=0.97)  # True

The trap: a metric that is better when it is larger, monitored as a loss. A name that
doesn't say which is refused without a mode.
"""

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg.training import recovery, reports

MODES = ("auto", "min", "max")
_SMALLER = re.compile(r".*(loss|error|regularization|norm|perplexity).*")
_LARGER = re.compile(r".*(accuracy|auc|r2|top_\d+|precision|recall|f1|iou|f_beta).*")


@dataclasses.dataclass
class History:
    """The state of a run besides its variables.

    Attributes:
        sums: over the examples of the current epoch, as JSON; {} between two.
        speeds: steps per second of each epoch, without those that compiled.
        seconds: duration of the run.
        best_value: the best monitored value.
        best_step: number of updates at the best monitored value.
        num_worse: number of epochs since then.
        train: tag -> value of the last epoch's report.
        stopped: why a hook has stopped the run; "" if none has.
    """

    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    speeds: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    best_value: float | None = None
    best_step: int = 0
    num_worse: int = 0
    train: dict[str, float] = dataclasses.field(default_factory=dict)
    stopped: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "History":
        """Returns the history of `dataclasses.asdict`."""
        known = dict(values)
        # The name in checkpoints of earlier versions.
        known["best_value"] = known.pop("best_loss", known.get("best_value"))
        return cls(**known)


class Saved:
    """When a run was saved, and whether it is due again.

    Args:
        every: number of steps between checkpoints; or of seconds, with an s.

    Attributes:
        step: number of updates in the last checkpoint, -1 before it.

    Raises:
        ValueError: `every` is neither.
    """

    def __init__(self, every: str) -> None:
        if not re.fullmatch(r"[1-9][0-9]{0,8}s?", every):
            raise ValueError(
                "checkpoint_every must be steps such as 1000, or seconds such as 30s, "
                f"got {every!r}: choose another value"
            )
        self._every, self._at, self.step = every, time.monotonic(), -1

    def note(self, step: int) -> None:
        """Notes that a step has a checkpoint."""
        self.step, self._at = step, time.monotonic()

    def is_due(self, step: int) -> bool:
        """Returns whether another checkpoint is due."""
        if self._every.endswith("s"):
            return time.monotonic() - self._at >= int(self._every[:-1])
        return step - self.step >= int(self._every)


class BestWeights(tf.Module):
    """A copy of a model's variables at the best monitored value so far."""

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        super().__init__()
        # In an attribute, a checkpoint would save the variables by another name.
        self._get_variables = lambda: variables
        self.copies = [tf.Variable(v, trainable=False) for v in variables]

    def update(self) -> None:
        """Copies the model's weights."""
        for copy, variable in zip(self.copies, self._get_variables(), strict=True):
            copy.assign(variable)

    def restore(self) -> None:
        """Copies the weights back into the model."""
        for copy, variable in zip(self.copies, self._get_variables(), strict=True):
            variable.assign(copy)


class Monitor:
    """The value that early stopping and the best weights go by.

    Args:
        tag: `train/` or `validation/`, and a tag of the report.
        mode: `min`, `max`, or `auto` for what the tag says.

    Raises:
        ValueError: another mode, or a tag that doesn't say whether larger is better.
    """

    def __init__(self, tag: str, mode: str = "auto") -> None:
        if mode not in MODES:
            raise ValueError(
                f"mode must be one of {', '.join(MODES)}, got {mode!r}: choose one of "
                "them"
            )
        if mode == "auto":
            small, large = _SMALLER.fullmatch(tag), _LARGER.fullmatch(tag)
            if (small is None) == (large is None):
                raise ValueError(
                    f"monitor must say whether larger is better, got {tag!r}: pass "
                    "mode='max' or mode='min'"
                )
            mode = "max" if large else "min"
        self.tag, self.mode = tag, mode

    def is_better(self, value: float, than: float | None) -> bool:
        """Returns whether a value is better than another one; any is than None."""
        if than is None:
            return True
        return value > than if self.mode == "max" else value < than

    def read(self, reported: Mapping[str, reports.Report], step: int) -> float:
        """Returns the monitored value.

        Args:
            reported: train and, if there is one, validation -> report of an epoch.
            step: number of updates so far.

        Raises:
            ValueError: there is no such value; the message lists those there are.
            recovery.LossError: the value isn't finite.
        """
        scalars = {
            f"{name}/{tag}": value
            for name, report in reported.items()
            for tag, value in report.get_scalars().items()
        }
        if self.tag not in scalars:
            raise ValueError(
                f"monitor must be a reported value, got {self.tag!r}, and there are "
                f"{', '.join(scalars)}: choose one of them"
            )
        if not math.isfinite(scalars[self.tag]):
            raise recovery.LossError(
                f"{self.tag} must be finite, got {scalars[self.tag]} after step "
                f"{step}: lower learning_rate or scale"
            )
        return scalars[self.tag]


def choose_tag(tag: str, patience: int | None, has_validation: bool) -> str:
    """Returns what is monitored: a training value where there is no validation.

    Raises:
        ValueError: there is a patience with a value of these.
    """
    if has_validation or not tag.startswith("validation/"):
        return tag
    if patience is not None:
        raise ValueError(
            f"patience must be used with validation data, got {patience} without any: "
            "pass validation, or monitor='train/loss/data'"
        )
    return "train/loss/data"


def update(
    past: History,
    best: BestWeights,
    monitor: Monitor,
    reported: Mapping[str, reports.Report],
    step: int,
) -> None:
    """Keeps the best weights, and counts the epochs since then.

    Args:
        past: is changed.
        best: likewise.
        monitor: what is monitored.
        reported: as for `Monitor.read`.
        step: number of updates so far.

    Raises:
        ValueError: as for `Monitor.read`.
        recovery.LossError: a validation loss isn't finite.
    """
    if "validation" in reported:
        _check_finite(reported["validation"], step)
    value = monitor.read(reported, step)
    if monitor.is_better(value, past.best_value):
        past.best_value, past.best_step, past.num_worse = value, step, 0
        best.update()
    else:
        past.num_worse += 1


def _check_finite(report: reports.Report, step: int) -> None:
    """Checks the validation losses.

    Raises:
        recovery.LossError: one isn't finite.
    """
    scalars = report.get_scalars()
    for tag in ("loss/data", "loss/regularization"):
        if not math.isfinite(scalars[tag]):
            raise recovery.LossError(
                f"validation {tag} must be finite, got {scalars[tag]} after step "
                f"{step}: lower learning_rate or scale, or check the validation data"
            )
