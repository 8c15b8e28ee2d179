"""Shows a run on the terminal: its variables, its progress, its results.

    console.show_step(trained.step)
    with console.Progress(num_epochs=10, steps_per_epoch=2) as progress:
        progress.update(0, trained.train(0), speed=1000.0)

If the output isn't a terminal, one line per epoch replaces the bar.
"""

import threading
import time
from typing import Any, Protocol

import rich.box
import rich.console
import rich.live
import rich.progress
import rich.table
import rich.text

from tfreg import data, optimizers
from tfreg.collections import parts
from tfreg.data import tasks
from tfreg.layers import base
from tfreg.models import freezing
from tfreg.runs import inputs
from tfreg.training import reports, step


class _Console(rich.console.Console):
    def on_broken_pipe(self) -> None:
        raise  # The BrokenPipeError; rich would exit with status 1.


def show_task(dataset: data.Dataset) -> None:
    """Prints what is learnt, with the numbers of examples of the classes."""
    task, y = inputs.get_task(dataset), dataset.train.y
    print(tasks.describe(task, y, dataset.num_classes), flush=True)


def show_step(trained: step.Step) -> None:
    """Prints name, shape, size, optimizer, penalties and decay of every variable."""
    updater, adapted = trained.updater, trained.adapted
    names, penalties = adapted.names, updater.list_penalties()
    grouped = isinstance(updater.optimizer, optimizers.Groups)
    table = rich.table.Table(box=rich.box.SIMPLE, pad_edge=False)
    columns = ["variable", "shape", "count", "penalized by"]
    if grouped:
        columns.append("trained by")
    trainable = {id(v) for v in adapted.trainable_variables}
    known = freezing.list_parameters(adapted)
    decayed = {v.ref(): updater.describe_decay(v) for v in known}
    if any(decayed.values()):
        columns.append("decayed by")
    for column in columns:
        justify: Any = "right" if column == "count" else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for variable in adapted.variables:
        by = " + ".join(map(repr, penalties.get(names[id(variable)], [])))
        row = [
            names[id(variable)],
            "x".join(map(str, variable.shape)) or "scalar",
            f"{variable.shape.num_elements():,}",
            by or ("" if id(variable) in trainable else "(not trained)"),
        ]
        if grouped:
            row.append(updater.optimizer.describe(variable))
        if "decayed by" in columns:
            row.append(decayed.get(variable.ref(), ""))
        table.add_row(*row)
    for part in parts.list_parts(trained.model):
        if isinstance(part, base.Layer):
            for regularizer in part.get_regularizers("activity"):
                row = [f"{part.name}/activity", "outputs", "", f"{regularizer!r}"]
                table.add_row(*row)
    count = sum(v.shape.num_elements() for v in adapted.trainable_variables)
    table.add_section()
    table.add_row("trainable", "", f"{count:,}")
    _Console().print(table, markup=False)


def format_report(report: reports.Report) -> str:
    """Returns one line with the losses and metrics."""
    text = f"loss {report.loss:.4f} + {report.regularization:.4f}"
    return "  ".join([text, *(f"{k} {v:.4f}" for k, v in report.metrics.items())])


class Receiver(Protocol):
    """Receives the progress of a Trainer."""

    def update(self, epoch: int, report: reports.Report, speed: float | None) -> None:
        """Receives the report of the epoch so far, and its steps per second."""

    def end_epoch(
        self,
        epoch: int,
        train: reports.Report,
        validation: reports.Report | None,
        speed: float | None,
    ) -> None:
        """Receives the reports of an epoch."""


class Progress:
    """A progress bar above the losses and metrics so far, or a line per epoch.

    Args:
        num_epochs: of the run.
        steps_per_epoch: of the loop.
    """

    def __init__(self, num_epochs: int, steps_per_epoch: int) -> None:
        self.num_epochs = num_epochs
        self.steps_per_epoch = steps_per_epoch
        self._console = _Console()
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[speed]}"),
            console=self._console,
        )
        total = num_epochs * steps_per_epoch
        first = self._format_epoch(0)
        self._task = self._bar.add_task(first, total=total, speed="compiling")
        self._lines = {"train": "", "validation": ""}
        self._live = rich.live.Live(
            get_renderable=self._render, console=self._console, refresh_per_second=10
        )

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def _render(self) -> rich.console.Group:
        lines = [f"{name:10}  {text}" for name, text in self._lines.items() if text]
        texts = [rich.text.Text(t, no_wrap=True, overflow="ellipsis") for t in lines]
        return rich.console.Group(self._bar, *texts)

    def _format_epoch(self, epoch: int) -> str:
        width = len(str(self.num_epochs))
        return f"epoch {epoch + 1:{width}}/{self.num_epochs}"

    def update(self, epoch: int, report: reports.Report, speed: float | None) -> None:
        """Moves the bar.

        Args:
            epoch: counted from 0.
            report: of the epoch so far.
            speed: steps per second; None for an epoch that compiles.
        """
        self._lines["train"] = format_report(report)
        self._bar.update(
            self._task,
            completed=epoch * self.steps_per_epoch + report.num_steps,
            description=self._format_epoch(epoch),
            speed=f"{speed:,.0f} steps/s" if speed else "",
        )

    def end_epoch(
        self,
        epoch: int,
        train: reports.Report,
        validation: reports.Report | None,
        speed: float | None,
    ) -> None:
        """Shows the validation results, or prints the line if there is no bar."""
        self.update(epoch, train, speed)
        if validation is not None:
            self._lines["validation"] = format_report(validation)
        if not self._console.is_terminal:
            task = self._bar.tasks[self._task]
            shown = {name: text for name, text in self._lines.items() if text}
            figures = "  ".join(f"{name} {text}" for name, text in shown.items())
            line = f"{task.description}  {figures}  {task.fields['speed']}"
            print(line.rstrip(), flush=True)


class SweepProgress:
    """A progress bar of all runs with the remaining time, or a line per run.

    Args:
        num_runs: number of runs in the sweep.
        num_done: number of runs that are finished already.
    """

    def __init__(self, num_runs: int, num_done: int) -> None:
        self._num_runs, self._num_done = num_runs, num_done
        self._started, self._trained = time.monotonic(), 0.0
        self._lock = threading.Lock()
        self._console = _Console()
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.fields[done]}", justify="right"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TextColumn("{task.fields[left]}"),
            rich.progress.TextColumn("{task.description}"),
            console=self._console,
        )
        self._task = self._bar.add_task(
            "compiling", total=num_runs, completed=num_done, done="", left=""
        )

    def __enter__(self) -> "SweepProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def watch(self, label: str, num_epochs: int, steps_per_epoch: int) -> "RunProgress":
        """Returns the progress for one run to report to."""
        return RunProgress(self, label, num_epochs * steps_per_epoch, steps_per_epoch)

    def advance(self, label: str, fraction: float) -> None:
        """Adds a fraction of a run."""
        with self._lock:
            self._trained += fraction
            self._bar.update(
                self._task,
                advance=fraction,
                description=label,
                done=f"{self._num_done}/{self._num_runs} runs",
                left=self._format_left(),
            )

    def end_run(self, line: str) -> None:
        """Counts a run, and prints the line if there is no bar."""
        with self._lock:
            self._num_done += 1
            if not self._console.is_terminal:
                width = len(str(self._num_runs))
                count = f"{self._num_done:{width}}/{self._num_runs}"
                print(f"{count}  {line}  {self._format_left()}", flush=True)

    def _format_left(self) -> str:
        left = self._num_runs - self._bar.tasks[self._task].completed
        seconds = (time.monotonic() - self._started) / max(self._trained, 1e-9) * left
        minutes, seconds = divmod(max(0, round(seconds)), 60)
        return f"{minutes} min {seconds:2} s left"


class RunProgress:
    """The progress of one run of a sweep; see `Progress` for its methods."""

    def __init__(
        self, sweep: SweepProgress, label: str, num_steps: int, steps_per_epoch: int
    ) -> None:
        self._sweep, self._label = sweep, label
        self._num_steps, self._steps_per_epoch = num_steps, steps_per_epoch
        self._done = 0.0
        self._figures = "diverged"

    def update(self, epoch: int, report: reports.Report, speed: float | None) -> None:
        """Moves the bar."""
        del speed
        done = (epoch * self._steps_per_epoch + report.num_steps) / self._num_steps
        self._sweep.advance(self._label, done - self._done)
        self._done = done

    def end_epoch(
        self,
        epoch: int,
        train: reports.Report,
        validation: reports.Report | None,
        speed: float | None,
    ) -> None:
        """Keeps the validation results for the last line."""
        del epoch, speed
        self._figures = format_report(validation or train)

    def end(self) -> None:
        """Completes the run's part of the bar, also if the run diverged."""
        self._sweep.advance(self._label, 1 - self._done)
        self._sweep.end_run(f"{self._label}  {self._figures}")
