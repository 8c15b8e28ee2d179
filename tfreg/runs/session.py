"""One call of `Trainer.run`: the lock, what is resumed, the signals, the files.

    trainer = tfreg.Trainer(trained, dataset.validation)
    bar = console.Progress(2, trained.steps_per_epoch)
    result = session.run(trainer, 2, "auto", bar, None, None)

The trap: a file that is written before it is known that the run can begin. What can be
refused is refused first, and the lock is held from then on.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from tfreg.runs import console, directories, history, records, results, signals, status
from tfreg.training import agreement, exactness, files, recovery, strategies


def run(
    trainer: Any,
    epochs: int,
    resume: bool | str,
    progress: console.Receiver,
    is_interrupted: Callable[[], int] | None,
    claim: directories.Claim | None,
) -> dict[str, Any]:
    """Trains a Trainer's run in its directory; the arguments are those of its `run`."""
    strategy, path = trainer.loop.strategy, trainer.directory
    text = records.describe(trainer.config, trainer.loop)
    with contextlib.ExitStack() as stack:
        stack.enter_context(strategies.explain_lost_workers(strategy))
        has_several = agreement.has_several(strategy)
        if not trainer.data_hashes and (path is not None or has_several):
            _hash_data(trainer, text)
        if claim is None and strategies.is_chief(strategy):
            records.check_resume(path, resume)
            if path is not None:
                args = path, False, resume is not False, "directory"
                claim = stack.enter_context(directories.claim(*args))
                records.check_config(path, text)
        if claim is not None:
            claim.prepare()
        else:
            trainer.directory = path = None  # Another worker, the chief, writes.
        workers = _restore(trainer, resume)
        if path is not None:
            for name, content in trainer.extra.items():
                files.write(path / name, content)
            directories.write_config(path, text)
            stack.enter_context(status.kept(trainer, epochs, workers))
        if is_interrupted is None:
            kept = f"saved in {path}" if path else "there is no directory to save in"
            watched = signals.stop_in_order(kept, trainer.log)
            is_interrupted = stack.enter_context(watched)
        _train(trainer, epochs, progress, is_interrupted)
        result = results.make_result(trainer, trainer.splits)
        if path is not None:
            files.write(path / directories.RESULT, results.to_json(result))
        return result


def _train(
    trainer: Any,
    epochs: int,
    progress: console.Receiver,
    is_interrupted: Callable[[], int],
) -> None:
    """Says how exact it is, and trains until the end or a signal to any worker."""
    strategy = trainer.loop.strategy
    for note in exactness.list_notes(trainer.loop.step.precision):
        trainer.log(note)
    watch = agreement.Watch(strategy, is_interrupted)
    try:
        with strategies.explain_lost_workers(strategy):  # In time for status.json.
            trainer.train(epochs, progress, watch)
    except signals.Interrupted as stopped:
        stopped.is_saved = strategies.is_chief(strategy)
        stopped.worker = watch.worker
        raise


def _hash_data(trainer: Any, text: str) -> None:
    """Hashes the data, and checks that all workers have the same description and data.

    Raises:
        ValueError: they have other settings.
        data.DataError: they have other data.
    """
    sources = [trainer.loop.source, trainer.validation]
    digest = records.hash_data([*sources, *(trainer.splits or {}).values()])
    own = {"config": json.loads(text), "data": digest}
    workers = agreement.gather(trainer.loop.strategy, own)
    records.check_workers([worker["config"] for worker in workers])
    records.check_worker_data([worker["data"] for worker in workers])
    trainer.data_hashes = [digest]


def _restore(trainer: Any, resume: bool | str) -> list[dict[str, Any]]:
    """Restores a run that has begun, and gives all workers the state of the chief.

    Returns:
        `status.describe_process` of each worker.
    """
    path, strategy = trainer.directory, trainer.loop.strategy
    train_step = trainer.loop.step
    if path is not None and resume and directories.has_begun(path):
        current = records.get_metadata(trainer.config, trainer.loop)
        saved = trainer.restore(path)
        records.check_metadata(saved, current, trainer.log)
        args = trainer.data_hashes[-1], trainer.allow_changed_data, trainer.log
        trainer.data_hashes = records.check_data(saved.get("data", []), *args)
    if not agreement.has_several(strategy):
        return [status.describe_process()]
    metadata = records.get_metadata(trainer.config, trainer.loop)
    own = {
        "history": dataclasses.asdict(trainer.history),
        "slots": metadata["slots"],
        "process": status.describe_process(),
    }
    workers = agreement.gather(strategy, own)
    chief = workers[0]
    trainer.history = history.History.from_json(chief["history"])
    records.build_slots(chief, train_step)
    values = recovery.list_variables(train_step, trainer.get_state())
    agreement.broadcast(strategy, values)
    return [worker["process"] for worker in workers]
