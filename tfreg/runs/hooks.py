"""What a hook of a Trainer receives: typed events, with the trainer.

    def stop_at_goal(event):
        if isinstance(event, hooks.EpochEnded):
            if event.validation.metrics["accuracy"] > 0.98:
                event.trainer.stop("the goal is reached")

    trainer = tfreg.Trainer(trained, dataset.validation, hooks=[stop_at_goal])

The trap: a hook whose error loses the run. The run is saved, and the error names the
hook.
"""

import dataclasses
import pathlib
from typing import Any

from tfreg.training import reports


class HookError(RuntimeError):
    """A hook has raised; the run is saved."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What all events have.

    Attributes:
        trainer: the Trainer, with `stop`, `log_scalar`, `log_image` and `log_text`.
        epoch: counted from 0.
        step: number of updates so far.
    """

    trainer: Any
    epoch: int
    step: int


@dataclasses.dataclass(frozen=True)
class StepsEnded(Event):
    """A call of the compiled graph has ended, a block of steps.

    Attributes:
        report: of the epoch so far.
    """

    report: reports.Report


@dataclasses.dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch has ended.

    Attributes:
        train: report of the epoch.
        validation: of the validation data; None without these.
    """

    train: reports.Report
    validation: reports.Report | None


@dataclasses.dataclass(frozen=True)
class Saved(Event):
    """A checkpoint was written.

    Attributes:
        path: of the checkpoint.
    """

    path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Stopped(Event):
    """The run has ended.

    Attributes:
        reason: in words.
    """

    reason: str


def notify(trainer: Any, event: Event) -> None:
    """Calls a trainer's hooks with an event.

    Raises:
        HookError: a hook has raised; the run is saved.
    """
    for hook in trainer.hooks:
        try:
            hook(event)
        except Exception as error:
            trainer.hooks.remove(hook)  # It isn't told of the checkpoint.
            trainer.save()
            raise _explain(hook, event, error) from error


def _explain(hook: Any, event: Event, error: Exception) -> HookError:
    trainer = event.trainer
    name = getattr(hook, "__name__", type(hook).__name__)
    where = "the run has no directory"
    if trainer.directory is not None:
        where = f"saved in {trainer.directory} after step {trainer.num_steps}"
    return HookError(
        f"the hook {name} must not raise, got {type(error).__name__} ({error}) at "
        f"{type(event).__name__}: correct it, and run again ({where})"
    )
