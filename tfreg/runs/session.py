"""One call of `Trainer.run`: the lock, what is resumed, the signals, the files.

    trainer = tfreg.Trainer(trained, dataset.validation)
    bar = console.Progress(2, trained.steps_per_epoch)
    result = session.run(trainer, 2, "auto", bar, None, None)

The trap: a file that is written before it is known that the run can begin. What can be
refused is refused first, and the lock is held from then on.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from tfreg.runs import console, directories, records, results, signals
from tfreg.training import files, strategies


def run(
    trainer: Any,
    epochs: int,
    resume: bool | str,
    progress: console.Receiver,
    is_interrupted: Callable[[], bool] | None,
    claim: directories.Claim | None,
) -> dict[str, Any]:
    """Trains a Trainer's run in its directory; the arguments are those of its `run`."""
    strategy, path = trainer.loop.strategy, trainer.directory
    text = records.describe(trainer.config, trainer.loop)
    with contextlib.ExitStack() as stack:
        stack.enter_context(strategies.explain_lost_workers(strategy))
        if claim is None and strategies.is_chief(strategy):
            records.check_resume(path, resume)
            if path is not None:
                args = path, False, resume is not False, "directory"
                claim = stack.enter_context(directories.claim(*args))
                records.check_config(path, text)
        if claim is not None:
            claim.prepare()
        if path is not None and resume and directories.has_begun(path):
            current = records.get_metadata(trainer.config, trainer.loop)
            records.check_metadata(trainer.restore(path), current, trainer.log)
        if claim is None:
            trainer.directory = path = None  # Another worker, the chief, writes.
        if path is not None:
            for name, content in trainer.extra.items():
                files.write(path / name, content)
            directories.write_config(path, text)
        if is_interrupted is None:
            watched = signals.stop_in_order(f"saved in {path}", trainer.log)
            is_interrupted = stack.enter_context(watched)
        trainer.train(epochs, progress, is_interrupted)
        result = results.make_result(trainer, trainer.splits)
        if path is not None:
            files.write(path / directories.RESULT, results.to_json(result))
        return result
