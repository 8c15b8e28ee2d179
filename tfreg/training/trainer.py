"""Epochs of a loop: checkpoints, events, the best weights, and when to stop.

    training = Training(run.loop, dataset, settings, path, facts, tell=print)
    training.restore()
    training.run(is_interrupted, console.Progress(10, 125))

The trap: a run that goes on after a kill with another history than it had, so that it
stops elsewhere or plots other means. What the host knows is in the checkpoint, too.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.runs import config
from tfreg.training import checkpoints, events, loop


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""


@dataclasses.dataclass
class History:
    """What a run has to remember beside its variables."""

    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    speeds: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    num_worse: int = 0  # Epochs since the best one.


class Best(tf.Module):
    """A copy of a model's variables, those of the best validation loss so far."""

    def __init__(self, model: tf.Module) -> None:
        super().__init__()
        self.copies = [tf.Variable(v, trainable=False) for v in model.variables]

    def take(self, model: tf.Module) -> None:
        """Copies the model's weights."""
        for copy, variable in zip(self.copies, model.variables, strict=True):
            copy.assign(variable)

    def give(self, model: tf.Module) -> None:
        """Copies the weights back into the model."""
        for copy, variable in zip(self.copies, model.variables, strict=True):
            variable.assign(copy)


class Training:
    """A run from wherever it is to its end.

    Args:
        trained: the loop.
        dataset: whose validation set is looked at after each epoch.
        settings: epochs, patience, and when a checkpoint is written.
        path: of the run's directory; None: nothing is written.
        facts: JSON values for the checkpoints' manifests.
        tell: is given sentences for the user.
    """

    def __init__(
        self,
        trained: loop.Loop,
        dataset: data.Dataset,
        settings: config.Config,
        path: pathlib.Path | None,
        facts: dict[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self.loop = trained
        self.dataset = dataset
        self.settings = settings
        self.path = path
        self.facts = facts
        self.tell = tell
        self.history = History()
        self.best = Best(trained.step.model)
        self.writer: events.Events | None = None
        self._has_compiled = False
        self._saved_step = -1
        self._saved_at = time.monotonic()
        self.began = time.perf_counter()  # Moved back by what was spent before.

    @property
    def num_steps(self) -> int:
        """Number of updates so far."""
        return int(self.loop.step.optimizer.step.numpy())

    @property
    def has_ended(self) -> bool:
        """Whether all epochs are trained, or patience is at its end."""
        patience = self.settings.patience
        is_out = patience is not None and self.history.num_worse >= patience
        return is_out or self.num_steps >= self._get_num_steps()

    def _get_num_steps(self) -> int:
        return self.settings.epochs * self.loop.steps_per_epoch

    def get_state(self) -> dict[str, tf.Module]:
        """Returns what a checkpoint must hold, by name."""
        return self.loop.get_state() | {"best": self.best}

    def restore(self, directory: pathlib.Path) -> dict[str, Any]:
        """Goes back to the newest whole checkpoint; returns its other facts.

        Raises:
            checkpoints.CheckpointError: there is none.
        """
        path = directory / "checkpoints"
        state = self.get_state()
        self._saved_step, facts = checkpoints.restore(path, state, self.tell)
        self.history = History(**facts.pop("history"))
        self.began -= self.history.seconds
        return facts

    def take_best(self) -> None:
        """Goes back to the best weights where there is a patience."""
        if self.settings.patience is not None:
            self.best.give(self.loop.step.model)

    def save(self) -> None:
        """Writes a checkpoint, but not of a step that has one.

        Raises:
            OSError: it can't be written; earlier ones are as they were.
        """
        step = self.num_steps
        if self.path is None or step == self._saved_step:
            return
        self._check_weights()
        self.history.seconds = time.perf_counter() - self.began
        if self.writer is not None:
            self.writer.sync()
        facts = self.facts | {"history": dataclasses.asdict(self.history)}
        path, keep = self.path / "checkpoints", self.settings.keep_checkpoints
        checkpoints.save(path, step, self.get_state(), facts, keep)
        self._saved_step, self._saved_at = step, time.monotonic()

    def _save_if_due(self) -> None:
        every = self.settings.checkpoint_every
        if every.endswith("s"):
            is_due = time.monotonic() - self._saved_at >= int(every[:-1])
        else:
            is_due = self.num_steps - self._saved_step >= int(every)
        if is_due:
            self.save()

    def run(self, is_interrupted: Callable[[], bool], progress: Any) -> None:
        """Trains to the end, and saves.

        Args:
            is_interrupted: asked before each call of the compiled graph.
            progress: is told of each call and epoch, as a `console.Progress` is.

        Raises:
            Interrupted: it said so; a checkpoint was written.
            loop.LossError: a loss isn't finite; what was written stays.
            OSError: a checkpoint can't be written; earlier ones stay.
        """
        while not self.has_ended:
            epoch = self.num_steps // self.loop.steps_per_epoch
            self._train_epoch(epoch, progress, is_interrupted)
        self._stop_if(is_interrupted)
        self.save()

    def _stop_if(self, is_interrupted: Callable[[], bool]) -> None:
        if is_interrupted():
            self.save()
            raise Interrupted

    def _train_epoch(
        self,
        epoch: int,
        progress: Any,
        is_interrupted: Callable[[], bool],
    ) -> None:
        """Trains the rest of an epoch and looks at the validation set."""
        steps = self.num_steps - epoch * self.loop.steps_per_epoch
        reports = self.loop.iterate(epoch, steps, self.history.sums)
        self._stop_if(is_interrupted)
        for report in reports:
            speed = (report["steps"] - steps) / self.loop.seconds
            progress.update(epoch, report, speed if self._has_compiled else None)
            if report["steps"] == self.loop.steps_per_epoch:
                break  # To be saved with what the validation says.
            self.history.sums = self.loop.sums
            self._save_if_due()
            self._stop_if(is_interrupted)
        self.history.sums = {}
        if self._has_compiled or self.num_steps >= self._get_num_steps():
            self.history.speeds.append(speed)
        validation = self.loop.evaluate(self.dataset.validation)
        self._judge(validation)
        self._write(report, validation)
        shown = speed if self._has_compiled else None
        progress.end_epoch(epoch, report, validation, shown)
        self._has_compiled = True
        self._save_if_due()

    def _judge(self, validation: loop.Report) -> None:
        """Keeps the best weights."""
        for name in ("loss/data", "loss/regularization"):
            if not math.isfinite(validation[name]):
                raise loop.LossError(
                    f"validation {name} must be finite, got {validation[name]} after "
                    f"step {self.num_steps}: lower learning_rate or scale"
                )
        best = self.history.best_loss
        if best is None or validation["loss/data"] < best:
            self.history.best_loss = validation["loss/data"]
            self.history.best_step = self.num_steps
            self.history.num_worse = 0
            self.best.take(self.loop.step.model)
        else:
            self.history.num_worse += 1

    def _write(self, train: loop.Report, validation: loop.Report) -> None:
        if self.writer is None:
            return
        step = self.num_steps
        named = {k: v for k, v in train.items() if k != "steps"}
        self.writer.write_scalars("train", step, named)
        self.writer.write_scalars("validation", step, validation)
        self.writer.write_histograms(step, self.loop.step.model.variables)

    def _check_weights(self) -> None:
        """Refuses what the update after the last look has spoilt."""
        for variable in self.loop.step.model.variables:
            if not np.isfinite(variable.numpy()).all():
                raise loop.LossError(
                    f"{variable.name.partition(':')[0]} must be finite, got inf or nan "
                    f"after step {self.num_steps}: lower learning_rate or scale"
                )
