"""Trains every setting of a sweep with every seed, several runs at once.

    compared = plans.make_paths(settings, ["l2"], [("kernel",)], [1e-4, 1e-3])
    plan = plans.Plan(compared, num_seeds=2)
    outcomes = runner.train(plan, "runs/sweep-l2", num_lanes=2)
    tests = runner.evaluate_test(plan, "runs/sweep-l2", ["none"])

The trap: a scale chosen by the test set. The outcomes don't include it: it is read
afterwards, for the settings that are named.
"""

import concurrent.futures
import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfreg import runs
from tfreg.runs import (
    config,
    console,
    directories,
    inputs,
    memory,
    records,
    results,
    signals,
)
from tfreg.sweeps import plans, programs
from tfreg.training import files, manifests, recovery, strategies

SMALL = 1e-3  # A weight below it counts as small.
# The metrics of a run, without the test set.
METRICS = (
    "train_loss",
    "train_accuracy",
    "train_r2",
    "validation_loss",
    "validation_accuracy",
    "validation_r2",
    "regularization",
    "weight_norm",
    "share_small",
    "steps",
    "steps_per_second",
    "wall_seconds",
)
Tests = dict[str, list[dict[str, float]]]  # Setting -> loss and metrics of each seed.


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The metrics of one run, NaN if its loss wasn't finite.

    Attributes:
        setting: name of the setting.
        seed: of the run.
        values: name in METRICS -> value.
    """

    setting: str
    seed: int
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class _Task:
    setting: str
    config: config.Config

    @property
    def path(self) -> pathlib.Path:
        return directories.get_path(self.config)

    @property
    def is_done(self) -> bool:
        return (self.path / directories.RESULT).is_file()


def _make_tasks(plan: plans.Plan, directory: pathlib.Path) -> list[_Task]:
    return [
        _Task(
            setting.name,
            dataclasses.replace(
                setting.config,
                seed=seed,
                logdir=str(directory),
                run_name=f"{setting.slug}-seed{seed}",
            ),
        )
        for setting in plan.settings
        for seed in range(plan.num_seeds)
    ]


def _make_strategy(settings: config.Config) -> tf.distribute.Strategy:
    strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    if strategy.cluster_resolver is not None:
        raise ValueError(
            "strategy must use one machine in a sweep, got "
            f"{settings.strategy!r}: start a sweep on each machine"
        )
    return strategy


def train(
    plan: plans.Plan,
    directory: str | os.PathLike,
    num_lanes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    is_interrupted: Callable[[], int] = lambda: False,
    allow_changed_data: bool = False,
) -> list[Outcome]:
    """Trains every setting with every seed, each in a run directory of its own.

    Args:
        plan: the settings and seeds; all settings use the same data.
        directory: of the sweep, for `tensorboard --logdir`.
        num_lanes: number of runs at once, each on a core; 1 with several replicas.
        resume: whether to keep the finished runs of this sweep.
        overwrite: whether to replace an existing sweep.
        is_interrupted: called after each call of a compiled graph.
        allow_changed_data: whether a sweep may be resumed with other data.

    Returns:
        An Outcome for each setting and seed, in the plan's order.

    Raises:
        ValueError: as for `runs.build`, or workers on several machines; nothing is
            written.
        data.DataError: the data can't be read; nothing is written.
        directories.DirectoryError: as for `directories.claim_sweep`; nothing is
            written.
        directories.BusyError: another process uses the directory; nothing is written.
        manifests.CheckpointError: the data have changed; nothing is written.
        signals.Interrupted: `is_interrupted` returned True; finished runs are kept.
        OSError: a file can't be written; finished runs are kept.
    """
    directory, text = pathlib.Path(directory), plan.to_json()
    with directories.claim_sweep(directory, text, resume, overwrite) as claim:
        tasks = _make_tasks(plan, directory)
        lanes = _make_lanes(tasks, print)
        if lanes.strategy.num_replicas_in_sync > 1:
            print("with several replicas the runs are trained one after another")
            num_lanes = 1
        if tasks[0].config.dropout:
            print("with dropout the program is compiled again for each seed")
        saved = [] if overwrite else directories.read_data_hashes(directory)
        digest = records.hash_dataset(lanes.dataset)
        hashes = records.check_data(saved, digest, allow_changed_data, print)
        claim.prepare()
        files.write(directory / directories.SWEEP, plan.to_json(hashes))
        todo = [task for task in tasks if not task.is_done]
        with console.SweepProgress(len(tasks), len(tasks) - len(todo)) as progress:
            args = lanes, digest, num_lanes, is_interrupted, progress
            _train_all(_sort(todo), *args)
        outcomes = [_read_outcome(task) for task in tasks]
        files.write(directory / "sweep.csv", to_csv(plan, outcomes))
    return outcomes


def _make_lanes(
    tasks: Sequence[_Task], log: Callable[[str], None] = lambda text: None
) -> programs.Lanes:
    settings = tasks[0].config
    strategy = _make_strategy(settings)
    dataset = inputs.load(settings, log)
    memory.check(settings, dataset, log)
    return programs.Lanes([task.config for task in tasks], dataset, strategy)


def _sort(tasks: Sequence[_Task]) -> list[_Task]:
    """Returns the tasks sorted by program, then by seed."""
    keys = [programs.get_program(task.config) for task in tasks]
    places = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return sorted(
        tasks, key=lambda t: (places[programs.get_program(t.config)], t.config.seed)
    )


def _train_all(
    tasks: Sequence[_Task],
    lanes: programs.Lanes,
    digest: str,
    num_lanes: int,
    is_interrupted: Callable[[], int],
    progress: console.SweepProgress,
) -> None:
    """Trains in threads, and stops all of them at the first error."""
    todo: queue.SimpleQueue[_Task] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                task = todo.get_nowait()
                with lanes.take(task.config) as lane:
                    _train_one(task, lane, digest, is_stopped, progress)
        except queue.Empty:
            pass
        except BaseException:
            stopped.set()
            raise

    def is_stopped() -> bool:
        return stopped.is_set() or bool(is_interrupted())

    with concurrent.futures.ThreadPoolExecutor(num_lanes) as pool:
        futures = [pool.submit(work) for _ in range(num_lanes)]
    errors = [error for future in futures if (error := future.exception())]
    # An error in one lane interrupts the others.
    for error in sorted(errors, key=lambda e: isinstance(e, signals.Interrupted)):
        raise error


def _train_one(
    task: _Task,
    lane: programs.Lane,
    digest: str,
    is_stopped: Callable[[], bool],
    progress: console.SweepProgress,
) -> None:
    run = lane.start(task.config)
    label = f"{task.setting}, seed {task.config.seed}"
    bar = progress.watch(label, task.config.epochs, run.loop.steps_per_epoch)
    trained = runs.make_trainer(run, task.path, histograms=False, log=print)
    if task.config.train_examples is not None:  # Else the run's data are the sweep's.
        digest = records.hash_dataset(run.dataset)
    trained.data_hashes = [digest]
    with directories.claim(task.path, overwrite=True) as claim:
        claim.prepare()
        text = inputs.describe(run.dataset).to_json()
        files.write(task.path / directories.DATA, text)
        directories.write_config(task.path, task.config.to_json())
        try:
            trained.train(task.config.epochs, bar, is_stopped)
            splits = {"train": run.dataset.train, "validation": run.dataset.validation}
            result = results.make_result(trained, splits)
            result["weights"] = _measure_weights(run.model)
        except recovery.LossError as error:
            result = {"diverged": str(error)}
        files.write(task.path / directories.RESULT, results.to_json(result))
    bar.end()


def _measure_weights(model: tf.Module) -> dict[str, float]:
    """Returns the global norm of the kernels, and the fraction of small weights."""
    kernels = np.concatenate(
        [v.numpy().ravel() for v in model.trainable_variables if len(v.shape) > 1]
    ).astype(np.float64)
    return {
        "norm": float(np.linalg.norm(kernels)),
        "share_small": float(np.mean(np.abs(kernels) < SMALL)),
    }


def _read_outcome(task: _Task) -> Outcome:
    path = task.path / directories.RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if "diverged" in result:
            values = dict.fromkeys(METRICS, math.nan)
            return Outcome(task.setting, task.config.seed, values)
        values = {
            f"{split}_{name}": value
            for split in ("train", "validation")
            for name, value in result[split].items()
        }
        weights = result["weights"]
        values |= result | {
            "regularization": result["train"]["regularization"],
            "weight_norm": weights["norm"],
            "share_small": weights["share_small"],
        }
        # Accuracy or R2, as the task says.
        metrics = {name: float(values[name]) for name in METRICS if name in values}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise directories.DirectoryError(
            f"a finished run must have an intact result.json, got {str(path)!r} "
            f"({error}): remove the run's directory, and resume with --resume"
        ) from None
    return Outcome(task.setting, task.config.seed, metrics)


def to_csv(plan: plans.Plan, outcomes: Sequence[Outcome]) -> str:
    """Returns a CSV line for each run, with all digits of every number."""
    settings = {setting.name: setting for setting in plan.settings}
    names = [name for name in METRICS if all(name in o.values for o in outcomes)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("setting", "tfreg", "keras", "path", "scale", "seed")
    writer.writerow([*columns, *names])
    for outcome in outcomes:
        setting = settings[outcome.setting]
        penalties = plans.describe(setting.config), plans.describe_keras(setting.config)
        place = setting.path or "", "" if setting.scale is None else setting.scale
        numbers = [repr(outcome.values[name]) for name in names]
        writer.writerow([setting.name, *penalties, *place, outcome.seed, *numbers])
    return text.getvalue()


def evaluate_test(
    plan: plans.Plan, directory: str | os.PathLike, names: Sequence[str]
) -> Tests:
    """Evaluates finished runs on the test set.

    Args:
        plan: of the sweep.
        directory: of the sweep.
        names: the settings to evaluate; choose them by the validation set.

    Returns:
        For each setting the loss and the metrics of each seed.

    Raises:
        manifests.CheckpointError: a checkpoint is missing or damaged.
        ValueError: as for `train`.
        data.DataError: the data can't be read.
    """
    tasks = _make_tasks(plan, pathlib.Path(directory))
    tasks = [task for task in tasks if task.setting in names]
    if not tasks:
        return {}
    lanes = _make_lanes(tasks)
    tests: Tests = {name: [] for name in names}
    for task in _sort(tasks):
        with lanes.take(task.config) as lane:
            run = lane.start(task.config)
            trained = runs.make_trainer(run, log=print)
            trained.restore(task.path)
            if not trained.has_ended(task.config.epochs):
                raise manifests.CheckpointError(
                    "a finished run must have its last checkpoint intact, got "
                    f"{str(task.path)!r} without it: remove the run's directory, and "
                    "resume with --resume"
                )
            trained.restore_best()
            report = trained.evaluate(run.dataset.test)
            tests[task.setting].append(results.get_losses(report))
    return tests
