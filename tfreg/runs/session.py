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

from tfreg import data
from tfreg.runs import console, directories, history, records, results, signals
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
    if path is not None or agreement.has_several(strategy):
        trainer.data_hash = records.hash_source(trainer.loop.source)
    with contextlib.ExitStack() as stack:
        stack.enter_context(strategies.explain_lost_workers(strategy))
        _check_workers(trainer, text)
        if claim is None and strategies.is_chief(strategy):
            records.check_resume(path, resume)
            if path is not None:
                args = path, False, resume is not False, "directory"
                claim = stack.enter_context(directories.claim(*args))
                records.check_config(path, text)
        if claim is None:
            trainer.directory = path = None  # Another worker, the chief, writes.
        if claim is not None:
            claim.prepare()
        _restore(trainer, resume)
        if path is not None:
            for name, content in trainer.extra.items():
                files.write(path / name, content)
            directories.write_config(path, text)
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
    try:
        trainer.train(epochs, progress, agreement.watch(strategy, is_interrupted))
    except signals.Interrupted as stopped:
        stopped.is_saved = strategies.is_chief(strategy)
        raise


def _check_workers(trainer: Any, text: str) -> None:
    """Checks that all workers have the same description and data.

    Raises:
        ValueError: they have other settings.
        data.DataError: they have other data.
    """
    strategy = trainer.loop.strategy
    if not agreement.has_several(strategy):
        return
    own = {"config": json.loads(text), "data": trainer.data_hash}
    workers = agreement.gather(strategy, own)
    records.check_workers([worker["config"] for worker in workers])
    others = [i for i, w in enumerate(workers) if w["data"] != workers[0]["data"]]
    if others:
        raise data.DataError(
            f"all workers must have the same data, got others on worker "
            f"{', '.join(map(str, others))}: copy those of worker 0"
        )


def _restore(trainer: Any, resume: bool | str) -> None:
    """Restores a run that has begun, and gives all workers the state of the chief."""
    path, strategy = trainer.directory, trainer.loop.strategy
    train_step = trainer.loop.step
    if path is not None and resume and directories.has_begun(path):
        current = records.get_metadata(trainer.config, trainer.loop)
        current["data"] = trainer.data_hash
        records.check_metadata(trainer.restore(path), current, trainer.log)
    if not agreement.has_several(strategy):
        return
    metadata = records.get_metadata(trainer.config, trainer.loop)
    own = {
        "history": dataclasses.asdict(trainer.history),
        "slots": metadata["slots"],
    }
    chief = agreement.gather(strategy, own)[0]
    trainer.history = history.History.from_json(chief["history"])
    records.build_slots(chief, train_step)
    values = recovery.list_variables(train_step, trainer.get_state())
    agreement.broadcast(strategy, values)
