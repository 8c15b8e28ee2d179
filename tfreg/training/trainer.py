"""Trains a loop for epochs, with checkpoints, events and early stopping.

    trainer = Trainer(trained, dataset.validation, patience=3, log=print)
    trainer.run(2, tfreg.runs.console.Progress(2, trained.steps_per_epoch))

The trap: a resumed run without its history, which stops at another epoch or plots other
means. So the checkpoint includes the history, not only variables.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.training import checkpoints, events, loop, manifests, recovery, reports


class Interrupted(Exception):
    """The run has stopped when it was interrupted, and has saved its state."""


class Progress(Protocol):
    """Receives the progress of a Trainer."""

    def update(self, epoch: int, report: reports.Report, speed: float | None) -> None:
        """Receives the report of the epoch so far, and its steps per second."""

    def end_epoch(
        self,
        epoch: int,
        train: reports.Report,
        validation: reports.Report,
        speed: float | None,
    ) -> None:
        """Receives the reports of an epoch."""


@dataclasses.dataclass
class History:
    """The state of a run besides its variables.

    Attributes:
        sums: over the examples of the current epoch, as JSON; {} between two.
        speeds: steps per second of each epoch, without those that compiled.
        seconds: duration of the run.
        best_loss: the smallest validation loss.
        best_step: number of updates at the smallest validation loss.
        num_worse: number of epochs since then.
    """

    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    speeds: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    num_worse: int = 0


class BestWeights(tf.Module):
    """A copy of a model's variables at the smallest validation loss so far."""

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


class Trainer:
    """Trains a loop for epochs, evaluates it after each, and saves checkpoints.

    Args:
        trained: the loop.
        validation: the examples to evaluate after each epoch.
        directory: of the run, which exists; None: nothing is written.
        patience: number of epochs without a better validation loss to stop after, and
            restore the best weights; None: never.
        checkpoint_every: number of steps between checkpoints; or of seconds, with an s.
        keep_checkpoints: number of intact checkpoints to keep.
        metadata: JSON values for the checkpoints' manifests.
        hparams: name -> str, int, float or bool, for TensorBoard.
        histograms: whether to write histograms of the weights for TensorBoard.
        started: `time.perf_counter()` at the start of the run; None: now.
        log: called with messages for the user.
    """

    def __init__(
        self,
        trained: loop.Loop,
        validation: data.Split,
        directory: pathlib.Path | None = None,
        patience: int | None = None,
        checkpoint_every: str = "30s",
        keep_checkpoints: int = 2,
        metadata: Mapping[str, Any] | None = None,
        hparams: Mapping[str, str | float] | None = None,
        histograms: bool = True,
        started: float | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.loop = trained
        self.validation = validation
        self.directory = directory
        self.patience = patience
        self.checkpoint_every = checkpoint_every
        self.keep_checkpoints = keep_checkpoints
        self.metadata = dict(metadata or {})
        self.hparams = dict(hparams or {})
        self.histograms = histograms
        self.log = log
        self.history = History()
        self.best = BestWeights(trained.step.adapted.variables)
        self._writer: events.Events | None = None
        self._has_compiled = False
        self._saved_step = -1
        self._saved_at = time.monotonic()
        self._started = time.perf_counter() if started is None else started

    @property
    def num_steps(self) -> int:
        """Number of updates so far."""
        return int(self.loop.step.optimizer.step.numpy())

    @property
    def seconds(self) -> float:
        """Duration of the run so far, including the time before it was resumed."""
        return time.perf_counter() - self._started

    def has_ended(self, epochs: int) -> bool:
        """Returns whether the run has ended, by its epochs or by early stopping."""
        stops = self.patience is not None and self.history.num_worse >= self.patience
        return stops or self.num_steps >= epochs * self.loop.steps_per_epoch

    def get_state(self) -> dict[str, tf.Module]:
        """Returns the objects to save in a checkpoint, by name."""
        return self.loop.get_state() | {"best": self.best}

    def restore(self, directory: pathlib.Path) -> dict[str, Any]:
        """Restores the newest intact checkpoint of a run; returns its metadata.

        Raises:
            manifests.CheckpointError: no checkpoint is intact.
        """
        path, state = directory / manifests.FOLDER, self.get_state()
        self._saved_step, metadata = checkpoints.restore(path, state, self.log)
        self.history = History(**metadata.pop("history"))
        self._started -= self.history.seconds
        return metadata

    def restore_best(self) -> None:
        """Restores the model's best weights, if there is a patience."""
        if self.patience is not None:
            self.best.restore()

    def save(self) -> None:
        """Writes a checkpoint, unless the step has one already.

        Raises:
            recovery.LossError: a weight isn't finite; nothing was written.
            OSError: it can't be written; earlier checkpoints are unchanged.
        """
        step = self.num_steps
        if self.directory is None or step == self._saved_step:
            return
        self._check_weights()
        self.history.seconds = self.seconds
        if self._writer is not None:
            self._writer.sync()
        metadata = self.metadata | {"history": dataclasses.asdict(self.history)}
        path, keep = self.directory / manifests.FOLDER, self.keep_checkpoints
        checkpoints.save(path, step, self.get_state(), metadata, keep)
        self._saved_step, self._saved_at = step, time.monotonic()

    def _save_if_due(self) -> None:
        every = self.checkpoint_every
        if every.endswith("s"):
            is_due = time.monotonic() - self._saved_at >= int(every[:-1])
        else:
            is_due = self.num_steps - self._saved_step >= int(every)
        if is_due:
            self.save()

    def run(
        self,
        epochs: int,
        progress: Progress,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains to the end, and saves; the model then has its final weights.

        Args:
            epochs: of the run, including those trained before.
            progress: receives a report of each call of the compiled graph, and of each
                epoch.
            is_interrupted: called before each call of the compiled graph.

        Raises:
            Interrupted: `is_interrupted` returned True; a checkpoint was written.
            recovery.LossError: a loss isn't finite; earlier files are kept.
            OSError: a checkpoint can't be written; earlier ones are kept.
        """
        self.save()  # A run that is killed at any later time can be resumed.
        if self.directory is None:
            self._run(epochs, progress, is_interrupted)
            return
        self._writer = events.Events(
            self.directory, self.hparams, self.num_steps, self.log, self.histograms
        )
        is_finished = False
        try:
            self._run(epochs, progress, is_interrupted)
            is_finished = True
        except recovery.LossError as error:
            last = manifests.list_newest_first(self.directory / manifests.FOLDER)[0]
            raise recovery.LossError(
                f"{error} (the last good checkpoint is {last})"
            ) from error
        finally:
            self._writer.close(is_finished)
            self._writer = None

    def _run(
        self, epochs: int, progress: Progress, is_interrupted: Callable[[], bool]
    ) -> None:
        while not self.has_ended(epochs):
            epoch = self.num_steps // self.loop.steps_per_epoch
            self._train_epoch(epoch, epochs, progress, is_interrupted)
        self._stop_if(is_interrupted)
        self.save()
        self.restore_best()

    def _stop_if(self, is_interrupted: Callable[[], bool]) -> None:
        if is_interrupted():
            self.save()
            raise Interrupted

    def _train_epoch(
        self,
        epoch: int,
        epochs: int,
        progress: Progress,
        is_interrupted: Callable[[], bool],
    ) -> None:
        """Trains the rest of an epoch, and evaluates the validation set."""
        steps = self.num_steps - epoch * self.loop.steps_per_epoch
        saved = self.history.sums
        sums = reports.Sums.from_json(saved) if saved else None
        iterated = self.loop.iterate(epoch, steps, sums)
        self._stop_if(is_interrupted)
        for report in iterated:
            speed = (report.num_steps - steps) / self.loop.seconds
            progress.update(epoch, report, speed if self._has_compiled else None)
            if report.num_steps == self.loop.steps_per_epoch:
                break  # Saved after the evaluation.
            self.history.sums = self.loop.sums.to_json()
            self._save_if_due()
            self._stop_if(is_interrupted)
        self.history.sums = {}
        validation = self.loop.evaluate(self.validation)
        self._update_early_stopping(validation)
        is_only = not self.history.speeds and self.has_ended(epochs)
        if self._has_compiled or is_only:
            self.history.speeds.append(speed)
        self._write(report, validation)
        shown = speed if self._has_compiled else None
        progress.end_epoch(epoch, report, validation, shown)
        self._has_compiled = True
        self._save_if_due()

    def _update_early_stopping(self, validation: reports.Report) -> None:
        """Keeps the best weights, and counts the epochs since then.

        Raises:
            recovery.LossError: the validation loss isn't finite.
        """
        scalars = validation.get_scalars()
        for tag in ("loss/data", "loss/regularization"):
            if not math.isfinite(scalars[tag]):
                raise recovery.LossError(
                    f"validation {tag} must be finite, got {scalars[tag]} after "
                    f"step {self.num_steps}: lower learning_rate or scale"
                )
        best = self.history.best_loss
        if best is None or validation.loss < best:
            self.history.best_loss = validation.loss
            self.history.best_step = self.num_steps
            self.history.num_worse = 0
            self.best.update()
        else:
            self.history.num_worse += 1

    def _write(self, train: reports.Report, validation: reports.Report) -> None:
        if self._writer is None:
            return
        step = self.num_steps
        self._writer.write_scalars("train", step, train.get_scalars())
        self._writer.write_scalars("validation", step, validation.get_scalars())
        adapted = self.loop.step.adapted
        named = {adapted.names[id(v)]: v for v in adapted.variables}
        self._writer.write_histograms(step, named)

    def _check_weights(self) -> None:
        """Checks the weights, which an update after the last report may have changed.

        Raises:
            recovery.LossError: a weight isn't finite.
        """
        adapted = self.loop.step.adapted
        for variable in adapted.variables:
            if not np.isfinite(variable.numpy()).all():
                raise recovery.LossError(
                    f"{adapted.names[id(variable)]} must be finite, got inf or nan "
                    f"after step {self.num_steps}: lower learning_rate or scale"
                )
