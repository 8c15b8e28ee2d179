"""Config -> a finished run directory.

    result = runs.train(settings)  # writes runs/a/, returns its result.json
    runs.evaluate("runs/a")["accuracy"]

The trap: a directory that is left behind by a run that couldn't start. Here everything
is checked and built before the first file is written.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import data, losses, models, optimizers, rules
from tfreg.collections import store
from tfreg.optimizers import schedules
from tfreg.runs import config, console, directories, results
from tfreg.training import checkpoints, events, loop, step, strategies, trainer


class WorkerError(RuntimeError):
    """Another worker is gone; scripts end with exit status 75."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a Config stands for, ready to train."""

    dataset: data.Dataset
    model: tf.Module
    step: step.Step
    loop: loop.Loop


def build(
    settings: config.Config,
    strategy: tf.distribute.Strategy | None = None,
    dataset: data.Dataset | None = None,
) -> Run:
    """Returns data, model, penalties, optimizer and loop, and writes nothing.

    Args:
        settings: of the run.
        strategy: what `settings` say, where it is made already.
        dataset: likewise, with all its examples.

    Raises:
        ValueError: the model doesn't fit the data, or a rule matches nothing.
        data.DataError: the data can't be read.
    """
    if strategy is None:
        strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    dataset = dataset or data.load(settings.dataset, settings.data_dir)
    dataset = settings.take_examples(dataset)
    batch_size = min(settings.batch_size, len(dataset.train))
    num_steps = -(-len(dataset.train) // batch_size) * settings.epochs
    with strategy.scope():
        model = make_model(settings, dataset)
        rules.apply(settings.get_rules(), model)
        train_step = step.Step(
            model,
            losses.sparse_softmax_cross_entropy if dataset.num_classes else _square,
            _make_optimizer(settings, num_steps),
            settings.clip_norm,
            settings.seed,
            settings.accumulate,
            settings.precision,
        )
    made = loop.Loop(
        train_step,
        dataset.train,
        batch_size,
        settings.seed,
        _get_steps_per_call(settings),
        strategy=strategy,
    )
    return Run(dataset, model, train_step, made)


def _get_steps_per_call(settings: config.Config) -> int:
    """Returns few enough that a signal is heard in two seconds, by a guess."""
    most = 500 if settings.model == "mlp" else 50
    if settings.checkpoint_every.endswith("s"):
        return most
    every = int(settings.checkpoint_every)
    return every // -(-every // most)


def _square(y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return losses.mean_squared_error(y, tf.reshape(outputs, tf.shape(y)))


def make_model(settings: config.Config, dataset: data.Dataset) -> tf.Module:
    """Returns the model, without penalties; its variables come with the first call.

    Raises: ValueError: it doesn't fit the data.
    """
    y, shape = dataset.train.y, dataset.train.x.shape[1:]
    num_outputs = dataset.num_classes or int(np.prod(y.shape[1:]))
    activation = None
    if settings.activation != "linear":
        activation = getattr(tf.nn, settings.activation)
    if settings.model == "mlp":
        widths = [*settings.hidden, num_outputs]
        return models.MLP(widths, activation, settings.dropout, seed=settings.seed)
    if len(shape) not in (2, 3) or min(shape[:2]) < 12:
        raise ValueError(
            "model cnn must have pictures of 12 x 12 pixels or more, got inputs of "
            f"shape {shape}: use the mlp"
        )
    return models.CNN(num_outputs, activation, settings.dropout, seed=settings.seed)


def _make_optimizer(settings: config.Config, num_steps: int) -> optimizers.Optimizer:
    rate, warmup = settings.learning_rate, settings.warmup_steps
    if warmup and warmup >= num_steps:
        raise ValueError(
            f"warmup_steps must be fewer than the run's {num_steps} steps, got "
            f"{warmup}: choose fewer"
        )
    # With nothing to pass, the last piece alone: a constant after the warm-up.
    schedule = schedules.piecewise([], [rate], warmup)
    if settings.schedule == "cosine":
        schedule = schedules.cosine(rate, num_steps, warmup)
    elif settings.schedule == "piecewise":
        # A tenth after a half and again after three quarters: He et al. 2016.
        half = num_steps // 2
        places = [half, max(half + 1, num_steps * 3 // 4)]
        values = [rate, rate / 10, rate / 100]
        schedule = schedules.piecewise(places, values, warmup)
    return getattr(optimizers, settings.optimizer)(schedule)


def show(settings: config.Config) -> None:
    """Prints the table of variables and the losses of one step; writes nothing.

    Raises:
        ValueError: as `build`.
    """
    with store.Store().as_default() as terms:
        run = build(settings)
        console.show_variables(run.model, terms.get_terms())
        size = run.loop.batch_size
        x, y = run.dataset.train.x[:size], run.dataset.train.y[:size]
        report = run.loop.step.evaluate(tf.constant(x), tf.constant(y))
        for name, value in sorted(report.items()):
            print(f"{float(value):<12.6g} {name}")


def train(
    settings: config.Config,
    overwrite: bool = False,
    resume: bool = False,
    is_interrupted: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Trains a model and writes its run directory.

    Args:
        settings: what to train.
        overwrite: whether a run that is there may be replaced.
        resume: whether a run that is there is gone on with, to the bit.
        is_interrupted: asked before each call of the compiled graph.
        tell: is given sentences for the user.

    Returns:
        What result.json holds.

    Raises:
        ValueError: as `build`; nothing was written.
        directories.DirectoryError: as `directories.check`, or the run that is there is
            another one; nothing was written.
        directories.BusyError: another process trains there; nothing was written.
        checkpoints.CheckpointError: no checkpoint is whole; nothing was written.
        loop.LossError: a loss that isn't finite; what was written stays.
        training.Interrupted: `is_interrupted` said so; a checkpoint was written.
        WorkerError: with several workers, one of them is gone; what was written stays.
        OSError: a file can't be written; what was written stays.
    """
    path = directories.get_path(settings)
    strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    # The other workers compute the same and write nothing.
    writes = strategies.is_chief(strategy)
    if writes:
        directories.check(path, overwrite, resume)
    if resume:
        directories.check_same(path, settings)
        done = directories.read_finished(path, settings)
        if done is not None:
            tell(f"{path} has finished: raise epochs to go on")
            return done
    with store.Store().as_default() as terms, _naming_workers(strategy):
        began = time.perf_counter()
        run = build(settings, strategy)
        console.show_variables(run.model, terms.get_terms())
        facts = get_facts(settings, strategy)
        made = trainer.Training(run.loop, run.dataset, settings, None, facts, tell)
        made.began = began
        with console.Progress(settings.epochs, run.loop.steps_per_epoch) as bar:
            if not writes:
                if resume and directories.has_begun(path):
                    made.restore(path)
                made.run(is_interrupted, bar)
                return _finish(made)
            with directories.claim(path, overwrite, resume) as goes_on:
                if goes_on:
                    _warn_of_differences(made.restore(path), made)
                result = train_in(path, made, is_interrupted, bar)
                text = results.to_json(result)
                checkpoints.write_whole(path / directories.RESULT, text)
                return result


def train_in(
    path: pathlib.Path,
    made: trainer.Training,
    is_interrupted: Callable[[], bool],
    progress: Any,
    histograms: bool = True,
    splits: Sequence[str] = results.SPLITS,
) -> dict[str, Any]:
    """Trains from where the training is, and writes config, events and checkpoints.

    Args:
        path: of the run's directory.
        made: what is trained.
        is_interrupted: as for `train`.
        progress: is told of each call and epoch, as a `console.Progress` is.
        histograms: whether those of the weights are written.
        splits: on which the model is evaluated in the end.

    Returns:
        What result.json is to hold.

    Raises: LossError, Interrupted, OSError: as `train`.
    """
    directories.remove_result(path)
    directories.write_config(path, made.settings)
    made.path = path
    made.save()  # So that a run that is killed at any later moment can be gone on with.
    hparams = get_hparams(made.settings)
    writer = events.Events(path, hparams, made.num_steps, made.tell, histograms)
    made.writer = writer
    finished = False
    try:
        made.run(is_interrupted, progress)
        finished = True
    except loop.LossError as error:
        last = checkpoints.list_newest_first(path / directories.CHECKPOINTS)[0]
        raise loop.LossError(f"{error} (the last good checkpoint is {last})") from error
    finally:
        writer.close(finished)
    return _finish(made, splits)


def _finish(
    made: trainer.Training, splits: Sequence[str] = results.SPLITS
) -> dict[str, Any]:
    """Returns what result.json holds; with patience, of the best weights."""
    best = {}
    made.take_best()
    if made.settings.patience is not None:
        best["best_step"] = made.history.best_step
    speeds = made.history.speeds
    result = results.make_result(made.loop, made.dataset, speeds, made.began, splits)
    return result | best


def get_facts(
    settings: config.Config, strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    """Returns what a checkpoint's manifest says of how its numbers were made."""
    return {
        "config": settings.get_hash(),
        "tensorflow": tf.__version__,
        "device": results.describe_device(),
        "replicas": strategy.num_replicas_in_sync,
    }


def _warn_of_differences(facts: dict[str, Any], made: trainer.Training) -> None:
    """Tells of what changes bits; another config's checkpoint is refused.

    Raises:
        checkpoints.CheckpointError: the checkpoint is of another config.
    """
    if facts["config"] != made.facts["config"]:
        raise checkpoints.CheckpointError(
            f"a checkpoint must be of its directory's config, got one of "
            f"{facts['config'][:8]}, not {made.facts['config'][:8]}: train it again"
        )
    for name in ("tensorflow", "device", "replicas"):
        if facts[name] != made.facts[name]:
            made.tell(
                f"the last bits may differ: {name} was {facts[name]} and is "
                f"{made.facts[name]}"
            )


@contextlib.contextmanager
def _naming_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the error of a lost worker into a sentence."""
    try:
        yield
    except tf.errors.OpError as error:
        if strategy.cluster_resolver is None:
            raise
        lines = str(error.message).strip().splitlines()
        # Under "Graph execution error:" and a stack of our own lines.
        told = [line for line in lines if "ollective ops" in line]
        reason = (told or lines or [""])[0].strip()[:200]
        raise WorkerError(
            f"all workers must keep running, got {type(error).__name__} ({reason}): "
            "start all of them again"
        ) from error


def get_hparams(settings: config.Config) -> dict[str, str | int | float]:
    """Returns what TensorBoard's HParams page compares, with the same keys always."""
    hparams: dict[str, str | int | float] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata["group"] == "output" or field.name == "data_dir":
            continue
        if isinstance(value, tuple):
            value = ",".join(map(str, value))
        hparams[field.name] = "none" if value is None else value
    scales = [max(rule.scales) for rule in settings.get_rules()]
    hparams["scale"] = max(scales, default=0.0)
    return hparams


def evaluate(
    directory: str | os.PathLike,
    data_dir: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Returns loss and accuracy on the test set, of the model that a run saved.

    Args:
        directory: of the run.
        data_dir: where the data are, if not where they were.
        tell: is given a sentence where that isn't the model at the run's end.

    Raises:
        directories.DirectoryError: the directory isn't a run's.
        checkpoints.CheckpointError: its checkpoint is missing or damaged.
        ValueError: as `build`.
    """
    settings = directories.read_config(pathlib.Path(directory, directories.CONFIG))
    if data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=data_dir)
    # One device is enough, and no other worker has to be there.
    settings = dataclasses.replace(settings, strategy="one", logical_devices=0)
    with store.Store().as_default():
        run = build(settings)
        made = trainer.Training(run.loop, run.dataset, settings, None, {}, tell)
        made.restore(pathlib.Path(directory))
        if not made.has_ended:
            tell(
                "not of the run's end, but of its checkpoint after "
                f"{made.num_steps} steps"
            )
        made.take_best()
        return results.get_losses(run.loop.evaluate(run.dataset.test))
