"""Settings x seeds -> a directory of runs, several of them at once.

    compared = plans.make_paths(settings, ["l2"], [("kernel",)], [1e-4, 1e-3])
    plan = runner.Plan(compared, num_seeds=2)
    outcomes = runner.train(plan, "runs/sweep-l2", num_lanes=2)
    tests = runner.evaluate_test(plan, "runs/sweep-l2", ["none"])

The trap: a coefficient chosen by the test set. The outcomes know nothing of it: it is
read afterwards, for the settings that are named.
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

from tfreg import data, runs
from tfreg.runs import config, console, directories, results
from tfreg.sweeps import plans, programs
from tfreg.training import checkpoints, loop, strategies, trainer

SMALL = 1e-3  # A weight below it counts as small.
# Of one run. None is of the test set.
METRICS = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "regularization",
    "weight_norm",
    "share_small",
    "steps",
    "steps_per_second",
    "wall_seconds",
)
Tests = dict[str, list[dict[str, float]]]  # Setting -> loss and accuracy of each seed.


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings and the number of seeds, 0 and up, that each is trained with.

    Raises:
        ValueError: no seed, no setting, two of one name, or a baseline that is missing.
    """

    settings: tuple[plans.Setting, ...]
    num_seeds: int

    def __post_init__(self) -> None:
        if self.num_seeds < 1:
            raise ValueError(
                f"seeds must be an int >= 1, got {self.num_seeds!r}: write for example "
                "5, as one alone has no interval"
            )
        names = [setting.name for setting in self.settings]
        slugs = {setting.slug for setting in self.settings}
        missing = {s.baseline for s in self.settings} - {None, *names}
        if not names or len(slugs) < len(names) or missing:
            raise ValueError(
                "settings must have different names and their baselines among them, "
                f"got {names!r}: name them otherwise"
            )

    def to_json(self) -> str:
        """Returns all that decides the sweep's numbers, but where the data are."""
        told = dataclasses.asdict(self)
        for setting in told["settings"]:
            for name in ("data_dir", "logdir", "run_name"):
                del setting["config"][name]
        return results.to_json(told)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came out of one run: METRICS -> value, NaN where the loss wasn't finite."""

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
        return (self.path / "result.json").is_file()


def _make_tasks(plan: Plan, directory: pathlib.Path) -> list[_Task]:
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
            f"strategy must be of one machine for a sweep, got {settings.strategy!r}: "
            "start a sweep on each machine"
        )
    return strategy


def train(
    plan: Plan,
    directory: str | os.PathLike,
    num_lanes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Trains every setting with every seed, and writes a run's directory for each.

    Args:
        plan: what to train; all of it on the same data.
        directory: of the sweep, for `tensorboard --logdir`.
        num_lanes: runs at once, each on a core of its own; one with replicas.
        resume: whether the finished runs of this sweep are kept.
        overwrite: whether a sweep that is there may be replaced.
        is_interrupted: asked after each call of a compiled graph.

    Returns:
        An Outcome for each setting and seed, in the plan's order.

    Raises:
        ValueError: as `runs.build`, or workers on several machines; nothing is written.
        data.DataError: the data can't be read; nothing is written.
        directories.DirectoryError: as `directories.check_sweep`; nothing is written.
        directories.BusyError: another process sweeps there; nothing is written.
        training.Interrupted: `is_interrupted` said so; finished runs are kept.
        OSError: a file can't be written; finished runs are kept.
    """
    directory, text = pathlib.Path(directory), plan.to_json()
    directories.check_sweep(directory, text, resume, overwrite)
    tasks = _make_tasks(plan, directory)
    settings = tasks[0].config
    strategy = _make_strategy(settings)
    dataset = data.load(settings.dataset, settings.data_dir)
    made = programs.Lanes([task.config for task in tasks], dataset, strategy)
    if strategy.num_replicas_in_sync > 1:
        print("with replicas the runs go one after another")
        num_lanes = 1
    if settings.dropout:
        print("with dropout a program is compiled for each seed")
    with directories.claim_sweep(directory, text, resume, overwrite):
        todo = [task for task in tasks if not task.is_done]
        with console.SweepProgress(len(tasks), len(tasks) - len(todo)) as progress:
            _train_all(_sort(todo), made, num_lanes, is_interrupted, progress)
        outcomes = [_read_outcome(task) for task in tasks]
        checkpoints.write_whole(directory / "sweep.csv", to_csv(plan, outcomes))
    return outcomes


def _sort(tasks: Sequence[_Task]) -> list[_Task]:
    """Returns the runs of one program together, and one seed after another."""
    keys = [programs.get_program(task.config) for task in tasks]
    places = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return sorted(
        tasks, key=lambda t: (places[programs.get_program(t.config)], t.config.seed)
    )


def _train_all(
    tasks: Sequence[_Task],
    made: programs.Lanes,
    num_lanes: int,
    is_interrupted: Callable[[], bool],
    progress: console.SweepProgress,
) -> None:
    """Trains in threads; the first error ends all of them."""
    todo: queue.SimpleQueue[_Task] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                task = todo.get_nowait()
                with made.take(task.config) as lane:
                    _train_one(task, lane, is_stopped, progress)
        except queue.Empty:
            pass
        except BaseException:
            stopped.set()
            raise

    def is_stopped() -> bool:
        return stopped.is_set() or is_interrupted()

    with concurrent.futures.ThreadPoolExecutor(num_lanes) as pool:
        futures = [pool.submit(work) for _ in range(num_lanes)]
    errors = [error for future in futures if (error := future.exception())]
    # An error in one lane interrupts the others.
    for error in sorted(errors, key=lambda e: isinstance(e, trainer.Interrupted)):
        raise error


def _train_one(
    task: _Task,
    lane: programs.Lane,
    is_stopped: Callable[[], bool],
    progress: console.SweepProgress,
) -> None:
    run = lane.start(task.config)
    label = f"{task.setting}, seed {task.config.seed}"
    bar = progress.watch(label, task.config.epochs, run.loop.steps_per_epoch)
    facts = runs.get_facts(task.config, run.loop.strategy)
    made = trainer.Training(run.loop, run.dataset, task.config, None, facts, print)
    with directories.claim(task.path, overwrite=True):
        try:
            splits = ("train", "validation")
            result = runs.train_in(task.path, made, is_stopped, bar, False, splits)
            result["weights"] = _measure_weights(run.model)
        except loop.LossError as error:
            result = {"diverged": str(error)}
        checkpoints.write_whole(task.path / "result.json", results.to_json(result))
    bar.end()


def _measure_weights(model: tf.Module) -> dict[str, float]:
    """Returns the norm of all kernels together, and how many of them are small."""
    found = [v.numpy().ravel() for v in model.trainable_variables if len(v.shape) > 1]
    kernels = np.concatenate(found).astype(np.float64)
    return {
        "norm": float(np.linalg.norm(kernels)),
        "share_small": float(np.mean(np.abs(kernels) < SMALL)),
    }


def _read_outcome(task: _Task) -> Outcome:
    path = task.path / "result.json"
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
        # Without classes there is no accuracy.
        kept = {name: float(values[name]) for name in METRICS if name in values}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise directories.DirectoryError(
            f"a finished run must have a whole result.json, got {str(path)!r} "
            f"({error}): remove the run's directory, and --resume"
        ) from None
    return Outcome(task.setting, task.config.seed, kept)


def to_csv(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Returns a line for each run, with every number in full."""
    settings = {setting.name: setting for setting in plan.settings}
    names = [name for name in METRICS if all(name in o.values for o in outcomes)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    told = ("setting", "tfreg", "keras", "path", "scale", "seed")
    writer.writerow([*told, *names])
    for outcome in outcomes:
        setting = settings[outcome.setting]
        penalties = plans.describe(setting.config), plans.describe_keras(setting.config)
        place = setting.path or "", "" if setting.scale is None else setting.scale
        numbers = [repr(outcome.values[name]) for name in names]
        writer.writerow([setting.name, *penalties, *place, outcome.seed, *numbers])
    return text.getvalue()


def evaluate_test(
    plan: Plan, directory: str | os.PathLike, names: Sequence[str]
) -> Tests:
    """Returns the test set's loss and accuracy of finished runs.

    Args:
        plan: of the sweep.
        directory: of the sweep.
        names: the settings that are looked at; settle this by the validation set.

    Raises:
        checkpoints.CheckpointError: a checkpoint is missing or damaged.
        ValueError, data.DataError: as `train`.
    """
    tasks = _make_tasks(plan, pathlib.Path(directory))
    tasks = [task for task in tasks if task.setting in names]
    if not tasks:
        return {}
    settings = tasks[0].config
    dataset = data.load(settings.dataset, settings.data_dir)
    strategy = _make_strategy(settings)
    made = programs.Lanes([task.config for task in tasks], dataset, strategy)
    tests: Tests = {name: [] for name in names}
    for task in _sort(tasks):
        with made.take(task.config) as lane:
            run = lane.start(task.config)
            facts = runs.get_facts(task.config, strategy)
            ended = trainer.Training(
                run.loop, run.dataset, task.config, None, facts, print
            )
            ended.restore(task.path)
            if not ended.has_ended:
                raise checkpoints.CheckpointError(
                    "a finished run must have its last checkpoint whole, got "
                    f"{str(task.path)!r} without: remove the run's directory, and "
                    "--resume"
                )
            ended.take_best()
            report = run.loop.evaluate(dataset.test)
            tests[task.setting].append(results.get_losses(report))
    return tests
