"""Trains a loop for epochs, with checkpoints, events, early stopping and signals.

    trainer = tfreg.Trainer(trained, dataset.validation, "runs/mine", patience=3)
    result = trainer.run(epochs=2)  # again after a kill: resumes, bit for bit

The trap: a resumed run without its history, which stops at another epoch or plots other
means. So the checkpoint includes the history, not only variables.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.runs import (
    console,
    directories,
    events,
    history,
    hooks,
    records,
    session,
    signals,
)
from tfreg.training import checkpoints, loop, manifests, recovery, reports


class Trainer(_checks.Guide):
    """Trains a loop for epochs, evaluates it after each, and saves checkpoints.

    Args:
        trained: the loop.
        validation: the examples to evaluate after each epoch; None: none.
        directory: of the run, for `tensorboard --logdir`; None: nothing is written.
        patience: number of epochs without a better monitored value to stop after, and
            restore the best weights; None: never.
        monitor: `train/` or `validation/`, and a tag of the reports.
        mode: whether the monitored value is better when it is smaller, `min`, or
            larger, `max`; `auto`: as its name says.
        checkpoint_every: number of steps between checkpoints; or of seconds, with an s.
        keep: number of intact checkpoints to keep.
        hooks: functions that receive the events of `runs.hooks`.
        config: hyperparameters by name, to record, to compare when the run is resumed,
            and for TensorBoard; JSON values; or a `runs.config.Config`.
        hparams: name -> str, int, float or bool, for TensorBoard; None: of `config`.
        histograms: whether to write histograms of the weights for TensorBoard.
        splits: name -> the examples that result.json has the losses of; None: those of
            validation.
        extra: name of a file -> its content, to write beside config.json.
        started: `time.perf_counter()` at the start of the run; None: now.
        log: called with messages for the user; None: prints them on stderr.
        deterministic: whether the same training has the same bits on a GPU as well, in
            all of the process and more slowly; on CPUs it always has.
        allow_changed_data: whether a run may be resumed with other examples; the hashes
            of both are kept with it.

    Raises:
        ValueError: an argument has an invalid value.
    """

    def __init__(
        self,
        trained: loop.Loop,
        validation: Any = None,
        directory: str | os.PathLike | None = None,
        patience: int | None = None,
        monitor: str = "validation/loss/data",
        mode: str = "auto",
        checkpoint_every: str = "30s",
        keep: int = 2,
        hooks: Sequence[Callable[[Any], None]] = (),
        config: Any = None,
        hparams: Mapping[str, str | float] | None = None,
        histograms: bool = True,
        splits: Mapping[str, Any] | None = None,
        extra: Mapping[str, str] | None = None,
        started: float | None = None,
        log: Callable[[str], None] | None = None,
        deterministic: bool = False,
        allow_changed_data: bool = False,
    ) -> None:
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        self.loop, self.validation, self.splits = trained, validation, splits
        self.directory = None if directory is None else pathlib.Path(directory)
        tag = history.choose_tag(monitor, patience, validation is not None)
        self.monitor = history.Monitor(tag, mode)
        self.keep, self.hooks, self.extra = keep, list(hooks), dict(extra or {})
        self.patience, self.config = patience, config
        self.hparams = records.get_hparams(config) if hparams is None else hparams
        self.log, self.histograms = log or signals.log, histograms
        self.history = history.History()
        self.best = history.BestWeights(trained.step.adapted.variables)
        self.epoch, self.allow_changed_data = 0, allow_changed_data
        self.data_hashes: list[str] = []  # Of all data that it is trained on.
        # Final: the model has its best or averaged weights.
        self._is_final = self._has_compiled = False
        self._writer: events.Events | None = None
        self._saved = history.Saved(str(checkpoint_every))
        self._started = time.perf_counter() if started is None else started

    def __repr__(self) -> str:
        return f"Trainer({self.loop.step}, '{self.directory}', step {self.num_steps})"

    @property
    def num_steps(self) -> int:
        """Number of updates so far."""
        return int(self.loop.step.optimizer.step.numpy())

    @property
    def seconds(self) -> float:
        """Duration of the run so far, including the time before it was resumed."""
        return time.perf_counter() - self._started

    def has_ended(self, epochs: int) -> bool:
        """Returns whether the run has ended: its epochs, early stopping or a hook."""
        worse = self.patience is not None and self.history.num_worse >= self.patience
        is_done = self.num_steps >= epochs * self.loop.steps_per_epoch
        return worse or is_done or bool(self.history.stopped)

    def get_state(self) -> dict[str, tf.Module]:
        """Returns the objects to save in a checkpoint, by name."""
        return self.loop.get_state() | {"best": self.best}

    def restore(self, directory: str | os.PathLike) -> dict[str, Any]:
        """Restores the newest intact checkpoint of a run; returns its metadata.

        Raises:
            manifests.CheckpointError: no checkpoint is intact, or it is of another
                model or optimizer.
        """
        path = pathlib.Path(directory, manifests.FOLDER)

        def prepare(metadata: Mapping[str, Any]) -> None:
            records.build_slots(metadata, self.loop.step)

        state = self.get_state()
        step, metadata = checkpoints.restore(path, state, self.log, prepare)
        self._saved.note(step)
        self.history = history.History.from_json(metadata.pop("history"))
        self._started -= self.history.seconds
        return metadata

    def restore_best(self) -> None:
        """Restores the model's best weights, if there is a patience."""
        if self.patience is not None:
            self.best.restore()
            self._is_final = True

    def restore_final(self) -> None:
        """Gives the model its final weights: the best ones, or the averages."""
        self.restore_best()
        for average in [] if self._is_final else self.loop.step.list_averages():
            average.assign()
        self._is_final = True

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Contains code in which the model has its averaged weights, if there are any.

        The best weights are averages already.
        """
        with contextlib.ExitStack() as stack:
            for average in [] if self._is_final else self.loop.step.list_averages():
                stack.enter_context(average.applied())
            yield

    def evaluate(self, source: Any) -> reports.Report:
        """Evaluates the model, with its averaged weights if there are any."""
        with self.averaged():
            return self.loop.evaluate(source)

    def save(self) -> None:
        """Writes a checkpoint, unless the step has one already.

        Raises:
            recovery.LossError: a weight isn't finite; nothing was written.
            OSError: it can't be written; earlier checkpoints are unchanged.
        """
        step = self.num_steps
        if self.directory is None or step == self._saved.step:
            return
        recovery.check_weights(self.loop.step)
        self.history.seconds = self.seconds
        if self._writer is not None:
            self._writer.sync()
        metadata = records.get_metadata(self.config, self.loop)
        metadata |= {"history": dataclasses.asdict(self.history)}
        metadata |= {"data": self.data_hashes} if self.data_hashes else {}
        path, state = self.directory / manifests.FOLDER, self.get_state()
        saved = checkpoints.save(path, step, state, metadata, self.keep)
        self._saved.note(step)
        self._notify(hooks.Saved, path=saved)

    def _save_if_due(self) -> None:
        if self._saved.is_due(self.num_steps):
            self.save()

    def stop(self, reason: str) -> None:
        """Ends the run after the current block of steps, as if it had no more epochs.

        Args:
            reason: in words, which are kept with the run.
        """
        self.history.stopped = reason

    def log_scalar(self, tag: str, value: float) -> None:
        """Writes a scalar for TensorBoard, at the current step."""
        if self._writer is not None:
            self._writer.write_scalars("train", self.num_steps, {tag: float(value)})

    def log_image(self, tag: str, image: Any) -> None:
        """Writes an image, `[height, width, channels]`, for TensorBoard."""
        if self._writer is not None:
            self._writer.write_image(self.num_steps, tag, image)

    def log_text(self, tag: str, text: str) -> None:
        """Writes a text for TensorBoard, in Markdown."""
        if self._writer is not None:
            self._writer.write_text(self.num_steps, tag, text)

    def _notify(self, kind: type, **values: Any) -> None:
        hooks.notify(self, kind(self, self.epoch, self.num_steps, **values))

    def run(
        self,
        epochs: int,
        resume: bool | str = "auto",
        progress: console.Receiver | None = None,
        is_interrupted: Callable[[], int] | None = None,
        claim: directories.Claim | None = None,
    ) -> dict[str, Any]:
        """Trains to the end, saves, and writes result.json.

        The model then has its final weights: with a patience the best ones. SIGINT and
        SIGTERM stop the run after the current block of steps, and save it.

        Args:
            epochs: of the run, including those trained before.
            resume: True: resume the run in the directory; False: begin one in a new
                directory; "auto": whichever it is.
            progress: receives a report of each call of the compiled graph, and of each
                epoch; None: a progress bar.
            is_interrupted: called before each call of the compiled graph; None: the
                signals are watched.
            claim: the lock of the directory, if it is held already.

        Returns:
            The content of result.json.

        Raises:
            ValueError: an argument has an invalid value.
            directories.DirectoryError: the directory holds another run, or none to
                resume; nothing was written.
            directories.BusyError: another process uses the directory.
            manifests.CheckpointError: no checkpoint is intact, or it is of another
                model, optimizer or config; nothing was written.
            signals.Interrupted: it was interrupted, and is saved.
            recovery.LossError: a loss isn't finite; earlier files are kept.
            hooks.HookError: a hook has raised; the run is saved.
            meeting.WorkerError: one of several workers has stopped.
            OSError: a file can't be written; earlier ones are kept.
        """
        args = is_interrupted, claim
        if progress is not None:
            return session.run(self, epochs, resume, progress, *args)
        console.show_step(self.loop.step)
        with console.Progress(epochs, self.loop.steps_per_epoch) as bar:
            return session.run(self, epochs, resume, bar, *args)

    def train(
        self,
        epochs: int,
        progress: console.Receiver,
        is_interrupted: Callable[[], int] = lambda: False,
    ) -> None:
        """Trains to the end and saves, in a directory that is claimed already.

        Args:
            epochs: as for `run`.
            progress: as for `run`.
            is_interrupted: as for `run`.

        Raises:
            signals.Interrupted: as for `run`; and other errors of `run`.
        """
        self.save()  # A run that is killed at any later time can be resumed.
        if self.directory is None:
            self._train(epochs, progress, is_interrupted)
            return
        self._writer = events.Events(
            self.directory, self.hparams, self.num_steps, self.log, self.histograms
        )
        is_finished = False
        try:
            self._train(epochs, progress, is_interrupted)
            is_finished = True
        except recovery.LossError as error:
            last = manifests.list_newest_first(self.directory / manifests.FOLDER)[0]
            raise recovery.LossError(
                f"{error} (the last good checkpoint is {last})"
            ) from error
        finally:
            self._writer.close(is_finished)
            self._writer = None

    def _train(
        self,
        epochs: int,
        progress: console.Receiver,
        is_interrupted: Callable[[], int],
    ) -> None:
        while not self.has_ended(epochs):
            self.epoch = self.num_steps // self.loop.steps_per_epoch
            self._train_epoch(self.epoch, epochs, progress, is_interrupted)
        self._stop_if(is_interrupted)
        self.save()
        self.restore_best()
        reason = self.history.stopped or "the epochs are trained"
        if self.num_steps < epochs * self.loop.steps_per_epoch:
            reason = self.history.stopped or f"no better {self.monitor.tag}"
        self._notify(hooks.Stopped, reason=reason)

    def _stop_if(self, is_interrupted: Callable[[], int]) -> None:
        if number := is_interrupted():
            self.save()
            self._notify(hooks.Stopped, reason="interrupted")
            raise signals.interrupt(number)

    def _train_epoch(
        self,
        epoch: int,
        epochs: int,
        progress: console.Receiver,
        is_interrupted: Callable[[], int],
    ) -> None:
        """Trains the rest of an epoch, and evaluates the validation data."""
        steps = self.num_steps - epoch * self.loop.steps_per_epoch
        saved = self.history.sums
        sums = reports.Sums.from_json(saved) if saved else None
        iterated = self.loop.iterate(epoch, steps, sums)
        self._stop_if(is_interrupted)
        for report in iterated:
            speed = (report.num_steps - steps) / self.loop.seconds
            progress.update(epoch, report, speed if self._has_compiled else None)
            if report.num_steps == self.loop.steps_per_epoch:
                break  # Saved, and the hooks called, after the evaluation.
            self.history.sums = self.loop.sums.to_json()
            self._notify(hooks.StepsEnded, report=report)
            self._save_if_due()
            self._stop_if(is_interrupted)
            if self.history.stopped:
                return
        self.history.sums = {}
        self._end_epoch(epoch, epochs, report, progress, speed)
        self._has_compiled = True
        self._save_if_due()

    def _end_epoch(
        self,
        epoch: int,
        epochs: int,
        train: reports.Report,
        progress: console.Receiver,
        speed: float,
    ) -> None:
        """Evaluates the validation data, and keeps and shows the results."""
        reported = {"train": train}
        with self.averaged():
            if self.validation is not None:
                reported["validation"] = self.loop.evaluate(self.validation)
            args = self.history, self.best, self.monitor, reported
            history.update(*args, self.num_steps)
        validation = reported.get("validation")
        self.history.train = {k: float(v) for k, v in train.get_scalars().items()}
        is_only = not self.history.speeds and self.has_ended(epochs)
        if self._has_compiled or is_only:
            self.history.speeds.append(speed)
        self._write(reported)
        shown = speed if self._has_compiled else None
        progress.end_epoch(epoch, train, validation, shown)
        self._notify(hooks.StepsEnded, report=train)
        self._notify(hooks.EpochEnded, train=train, validation=validation)

    def _write(self, reported: Mapping[str, reports.Report]) -> None:
        if self._writer is None:
            return
        for name, report in reported.items():
            self._writer.write_scalars(name, self.num_steps, report.get_scalars())
        adapted = self.loop.step.adapted
        named = adapted.by_path(adapted.variables)
        self._writer.write_histograms(self.num_steps, named)
