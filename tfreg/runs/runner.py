"""Trains and evaluates a run in its directory.

    result = runs.train(settings)  # writes runs/a/, returns its result.json
    runs.evaluate("runs/a")["accuracy"]

The trap: two processes that train in the same directory, or one that removes a run
before its own is known to start.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfreg import data
from tfreg.collections import store
from tfreg.runs import (
    builder,
    config,
    console,
    directories,
    inputs,
    memory,
    own,
    records,
    results,
    scoring,
    serving,
    trainer,
)
from tfreg.training import agreement, batches, files, reports, strategies


def show(
    settings: config.Config, log: Callable[[str], None] = lambda text: None
) -> None:
    """Prints the table of variables and the losses of one batch; writes nothing.

    Args:
        settings: of the run.
        log: called with messages for the user.

    Raises:
        ValueError: as for `build`.
    """
    with store.Store().as_default():
        dataset = builder.take_examples(settings, inputs.load(settings, log))
        memory.check(settings, dataset, log)
        run = builder.build(settings, dataset=dataset, log=log)
        console.show_task(run.dataset)
        console.show_step(run.loop.step)
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
    is_interrupted: Callable[[], int] = lambda: False,
    log: Callable[[str], None] = lambda text: None,
    allow_changed_data: bool = False,
) -> dict[str, Any]:
    """Trains a model and writes its run directory.

    Args:
        settings: of the run.
        overwrite: whether to replace an existing run.
        resume: whether to resume an existing run, bit for bit.
        is_interrupted: called before each call of the compiled graph.
        log: called with messages for the user.
        allow_changed_data: whether a run may be resumed with other data.

    Returns:
        The content of result.json.

    Raises:
        ValueError: as for `build`; nothing was written.
        directories.DirectoryError: as for `directories.claim`, or the existing run has
            another config; nothing was written.
        directories.BusyError: another process uses the directory; nothing was written.
        data.DataError: the data can't be read, or a worker has others.
        manifests.CheckpointError: no checkpoint is intact, or the data have changed;
            nothing was written.
        recovery.LossError: a loss isn't finite; earlier files are kept.
        signals.Interrupted: `is_interrupted` returned True; a checkpoint was written.
        meeting.WorkerError: one of several workers has stopped.
        OSError: a file can't be written; earlier files are kept.
    """
    path = directories.get_path(settings)
    strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    with contextlib.ExitStack() as stack:
        claim = None  # The other workers compute the same, and write nothing.
        if strategies.is_chief(strategy):
            claim = stack.enter_context(directories.claim(path, overwrite, resume))
        stack.enter_context(strategies.explain_lost_workers(strategy))
        result = None
        if resume and claim is not None:
            result = directories.read_finished(path, settings)
        result = _agree(strategy, settings, result)
        if result is not None:
            log(f"{path} has finished: raise epochs to resume it")
            return result
        stack.enter_context(store.Store().as_default())
        is_new = not (resume and directories.has_begun(path))
        parts = _build(settings, strategy, path, is_new, log, allow_changed_data)
        return _train(*parts, claim, resume, is_interrupted)


def _agree(
    strategy: tf.distribute.Strategy,
    settings: config.Config,
    result: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """Returns the chief's result, if its run has finished, on all workers.

    Raises:
        ValueError: the workers have other settings.
    """
    if not agreement.has_several(strategy):
        return result
    own_values = {"config": json.loads(settings.to_json()), "result": result}
    workers = agreement.gather(strategy, own_values)
    records.check_workers([worker["config"] for worker in workers])
    return workers[0]["result"]


def _build(
    settings: config.Config,
    strategy: tf.distribute.Strategy,
    path: pathlib.Path,
    is_new: bool,
    log: Callable[[str], None],
    allow_changed_data: bool,
) -> tuple[trainer.Trainer, inputs.Inputs, data.Split]:
    """Returns the run's trainer, what is kept of its data, and its test examples."""
    started = time.perf_counter()
    # A run of an earlier version, without these, may have kept nothing.
    names = own.list_names(settings)
    is_kept = not is_new and (settings.data is not None or bool(names))
    kept = inputs.read(path) if is_kept else None
    source = own.get_digest(settings)
    if kept and source != kept.source:
        log(f"the source of {', '.join(names)} isn't that which the run began with")
    dataset = builder.take_examples(settings, inputs.load(settings, log, kept))
    # Before the model, which workers can't create of different shapes.
    digest = records.hash_dataset(dataset)
    records.check_worker_data(agreement.gather(strategy, digest))
    console.show_task(dataset)
    memory.check(settings, dataset, log)
    run = builder.build(settings, strategy, dataset, log, is_new)
    memory.check_step(run.loop, log)
    trained = builder.make_trainer(run, path, started, log=log)
    trained.data_hashes, trained.allow_changed_data = [digest], allow_changed_data
    described = dataclasses.replace(inputs.describe(dataset), source=source)
    trained.extra[directories.DATA] = described.to_json()
    return trained, described, dataset.test


def _train(
    trained: trainer.Trainer,
    described: inputs.Inputs,
    test: data.Split,
    claim: directories.Claim | None,
    resume: bool,
    is_interrupted: Callable[[], int],
) -> dict[str, Any]:
    """Trains a run, in the claimed directory if there is one."""
    settings, path = trained.config, trained.directory
    result = trained.run(
        settings.epochs, resume, is_interrupted=is_interrupted, claim=claim
    )
    result["report"] = report = _report(trained, described, test)
    if claim is not None and path is not None:
        files.write(path / directories.RESULT, results.to_json(result))
        if report and "confusion" in report:
            _show_confusion(path / "test", trained.num_steps, report["confusion"])
    return result


def _report(
    trained: trainer.Trainer, kept: inputs.Inputs, split: data.Split
) -> dict[str, Any] | None:
    """Returns the report on a part of the data; see `scoring.score`."""
    with trained.averaged():
        values = serving.predict(trained.loop.step, kept, split.x)
    return scoring.score(kept.task, split.y, values, kept.num_classes)


def _show_confusion(path: pathlib.Path, step: int, confusion: Any) -> None:
    """Writes the confusion matrix as a picture for TensorBoard."""
    shutil.rmtree(path, ignore_errors=True)  # Of an earlier, shorter run.
    writer = tf.summary.create_file_writer(str(path))
    with writer.as_default(step):
        tf.summary.image("confusion", scoring.draw(confusion)[tf.newaxis])
    writer.close()


def evaluate(
    directory: str | os.PathLike,
    data_dir: str | None = None,
    source: str | None = None,
    log: Callable[[str], None] = lambda text: None,
    report: bool = False,
) -> dict[str, Any]:
    """Evaluates the saved model of a run on the test set.

    Args:
        directory: of the run.
        data_dir: path of the data, if they have moved.
        source: path of a file of which to evaluate all rows, in place of the test set.
        log: called with a message if the run isn't finished.
        report: whether to add `report`, see `scoring.score`.

    Returns:
        The loss and the metrics.

    Raises:
        directories.DirectoryError: the directory isn't a run's.
        data.DataError: the data can't be read, or aren't those of the run.
        manifests.CheckpointError: its checkpoint is missing or damaged.
        ValueError: as for `build`.
    """
    path = pathlib.Path(directory)
    settings = directories.read_config(path / directories.CONFIG)
    if data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=data_dir)
    known = inputs.read(path) if settings.data is not None else None
    if source is not None and (known is None or known.reader is None):
        of, advice = settings.data or settings.dataset, "write --data_dir"
        advice = advice if known is None else "change the function, or leave it out"
        raise ValueError(
            f"data must be used with a run on a file, got {source!r} for one on "
            f"{of}: {advice}"
        )
    # One device is enough, and no other worker is needed.
    settings = dataclasses.replace(settings, strategy="one", logical_devices=0)
    with store.Store().as_default():
        dataset = inputs.load(settings, log, known)
        test = dataset.test
        if source is not None and known is not None:
            test = known.reader.load(source)
        run = builder.build(settings, dataset=dataset, is_new=False)
        trained = builder.make_trainer(run, log=log)
        trained.restore(path)
        if not trained.has_ended(settings.epochs):
            log(
                "the run isn't finished: evaluating its checkpoint after "
                f"{trained.num_steps} steps"
            )
        trained.restore_best()
        losses = results.get_losses(trained.evaluate(test))
        if report:
            losses["report"] = _report(trained, inputs.describe(dataset), test)
        return losses
