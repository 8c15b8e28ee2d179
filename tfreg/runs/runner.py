"""Trains and evaluates a run in its directory.

    result = runs.train(settings)  # writes runs/a/, returns its result.json
    runs.evaluate("runs/a")["accuracy"]

The trap: two processes that train in the same directory, or one that removes a run
before its own is known to start.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfreg.collections import store
from tfreg.runs import builder, config, console, directories, results
from tfreg.training import batches, files, manifests, reports, strategies, trainer


class WorkerError(RuntimeError):
    """Another worker has stopped; scripts end with exit status 75."""


def show(settings: config.Config) -> None:
    """Prints the table of variables and the losses of one batch; writes nothing.

    Raises:
        ValueError: as for `build`.
    """
    with store.Store().as_default() as terms:
        run = builder.build(settings)
        console.show_variables(run.model, terms.get_terms())
        size = run.loop.batch_size
        train = run.dataset.train
        x = batches.scale_pixels(tf.constant(train.x[:size]), train.pixels)
        losses = run.loop.step.evaluate(x, tf.constant(train.y[:size]))
        metrics = run.loop.step.get_metrics(losses.sums.states)
        report = reports.Report(*losses[:3], metrics, data_losses=losses.data_losses)
        for tag, value in sorted(report.get_scalars().items()):
            print(f"{float(value):<12.6g} {tag}")


def train(
    settings: config.Config,
    overwrite: bool = False,
    resume: bool = False,
    is_interrupted: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Trains a model and writes its run directory.

    Args:
        settings: of the run.
        overwrite: whether to replace an existing run.
        resume: whether to resume an existing run, bit for bit.
        is_interrupted: called before each call of the compiled graph.
        log: called with messages for the user.

    Returns:
        The content of result.json.

    Raises:
        ValueError: as for `build`; nothing was written.
        directories.DirectoryError: as for `directories.claim`, or the existing run has
            another config; nothing was written.
        directories.BusyError: another process uses the directory; nothing was written.
        manifests.CheckpointError: no checkpoint is intact; nothing was written.
        recovery.LossError: a loss isn't finite; earlier files are kept.
        trainer.Interrupted: `is_interrupted` returned True; a checkpoint was written.
        WorkerError: one of several workers has stopped; earlier files are kept.
        OSError: a file can't be written; earlier files are kept.
    """
    path = directories.get_path(settings)
    strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    with contextlib.ExitStack() as stack:
        claim = None  # The other workers compute the same, and write nothing.
        if strategies.is_chief(strategy):
            claim = stack.enter_context(directories.claim(path, overwrite, resume))
        result = directories.read_finished(path, settings) if resume else None
        if result is not None:
            log(f"{path} has finished: raise epochs to resume it")
            return result
        stack.enter_context(store.Store().as_default())
        stack.enter_context(_explain_lost_workers(strategy))
        return _train(settings, strategy, path, claim, resume, is_interrupted, log)


def _train(
    settings: config.Config,
    strategy: tf.distribute.Strategy,
    path: pathlib.Path,
    claim: directories.Claim | None,
    resume: bool,
    is_interrupted: Callable[[], bool],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Builds the run and trains it, in the claimed directory if there is one."""
    started = time.perf_counter()
    run = builder.build(settings, strategy)
    console.show_variables(run.model, store.get_default_store().get_terms())
    directory = None if claim is None else path
    trained = builder.make_trainer(run, directory, started, log=log)
    with console.Progress(settings.epochs, run.loop.steps_per_epoch) as bar:
        if claim is not None:
            claim.prepare()
        if resume and directories.has_begun(path):
            _check_metadata(trained.restore(path), trained)
        if claim is not None:
            directories.write_config(path, settings)
        trained.run(settings.epochs, bar, is_interrupted)
        result = results.make_result(trained, run.dataset)
        if claim is not None:
            files.write(path / directories.RESULT, results.to_json(result))
        return result


def _check_metadata(saved: dict[str, Any], resumed: trainer.Trainer) -> None:
    """Checks that a checkpoint is the run's, and logs a changed environment.

    Raises:
        manifests.CheckpointError: the checkpoint is of another config.
    """
    current = resumed.metadata
    if saved["config"] != current["config"]:
        raise manifests.CheckpointError(
            f"a checkpoint must be of its directory's config, got one of "
            f"{saved['config'][:8]}, not {current['config'][:8]}: train it again"
        )
    for name in ("tensorflow", "device", "replicas"):
        if saved[name] != current[name]:
            resumed.log(
                f"the last bits may differ: {name} was {saved[name]} and is "
                f"{current[name]}"
            )


@contextlib.contextmanager
def _explain_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the error of a lost worker into a sentence."""
    try:
        yield
    except tf.errors.OpError as error:
        if strategy.cluster_resolver is None:
            raise
        lines = str(error.message).strip().splitlines()
        # Below "Graph execution error:" and a traceback of tfreg's lines.
        reasons = [line for line in lines if "ollective ops" in line]
        reason = (reasons or lines or [""])[0].strip()[:200]
        raise WorkerError(
            f"all workers must keep running, got {type(error).__name__} ({reason}): "
            "start all of them again"
        ) from error


def evaluate(
    directory: str | os.PathLike,
    data_dir: str | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Evaluates the saved model of a run on the test set.

    Args:
        directory: of the run.
        data_dir: path of the data, if they have moved.
        log: called with a message if the run isn't finished.

    Returns:
        The loss and, with classes, the accuracy.

    Raises:
        directories.DirectoryError: the directory isn't a run's.
        manifests.CheckpointError: its checkpoint is missing or damaged.
        ValueError: as for `build`.
    """
    settings = directories.read_config(pathlib.Path(directory, directories.CONFIG))
    if data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=data_dir)
    # One device is enough, and no other worker is needed.
    settings = dataclasses.replace(settings, strategy="one", logical_devices=0)
    with store.Store().as_default():
        run = builder.build(settings)
        trained = builder.make_trainer(run, log=log)
        trained.restore(pathlib.Path(directory))
        if not trained.has_ended(settings.epochs):
            log(
                "the run isn't finished: evaluating its checkpoint after "
                f"{trained.num_steps} steps"
            )
        trained.restore_best()
        return results.get_losses(run.loop.evaluate(run.dataset.test))
