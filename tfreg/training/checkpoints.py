"""The state of a run on the disk: saved completely or not at all, restored if intact.

    state = {"model": model, "optimizer": optimizer}
    checkpoints.save("runs/a/checkpoints", 1250, state, {"replicas": 1})
    step, metadata = checkpoints.restore("runs/a/checkpoints", state)

The trap: a run that was killed while it saved, and has lost the checkpoint before, too.
Here an older checkpoint is removed only after a newer one is on the disk.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tfreg.training import files, manifests


def save(
    directory: str | os.PathLike,
    step: int,
    state: Mapping[str, tf.Module],
    metadata: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> pathlib.Path:
    """Writes a checkpoint `step-NNNNNNNNNN` and then removes older ones.

    Args:
        directory: of the run's checkpoints, made where missing.
        step: number of updates that the state has seen.
        state: name -> what has the variables.
        metadata: JSON values that `restore` gives back.
        keep: how many intact checkpoints stay, this one included.

    Returns:
        The checkpoint's directory, readable by `tf.train.Checkpoint` as `state`.

    Raises:
        OSError: it can't be written; earlier checkpoints are as they were.
    """
    directory = pathlib.Path(directory)
    path, aside = directory / f"step-{step:010d}", manifests.get_aside(directory)
    old = directory / f"old-{path.name}"
    with files.explain_errors(path, tf.errors.OpError):
        files.make_directory(directory)
        manifests.remove_leftovers(directory)
        aside.mkdir()
        try:
            tf.train.Checkpoint(**state).write(str(aside / "state"))
            manifests.write(aside, step, dict(metadata or {}))
            for file in (*aside.iterdir(), aside):
                files.sync(file)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.rename(path, old)
            os.rename(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        files.sync(directory)
        shutil.rmtree(old, ignore_errors=True)
        manifests.prune(directory, keep)
    return path


def restore(
    directory: str | os.PathLike,
    state: Mapping[str, tf.Module],
    log: Callable[[str], None] = lambda text: None,
) -> tuple[int, dict[str, Any]]:
    """Reads the newest intact checkpoint into variables that exist already.

    Args:
        directory: of the run's checkpoints.
        state: name -> what has the variables, as when it was saved.
        log: is given a sentence for each damaged checkpoint that is passed over.

    Returns:
        The number of updates that the state has seen, and the metadata.

    Raises:
        CheckpointError: none is intact, or it is of another model.
    """
    directory = pathlib.Path(directory)
    damage = "none"
    for path in manifests.list_newest_first(directory):
        try:
            step, metadata = manifests.verify(path)
        except manifests.CheckpointError as error:
            damage = str(error).partition(", got ")[2].rpartition(": ")[0]
            log(f"passed over a damaged checkpoint: {damage}")
            continue
        _read(path, state)
        return step, metadata
    raise manifests.CheckpointError(
        f"a run must have an intact checkpoint, got {damage} in {str(directory)!r}: "
        "name another run, or train it again"
    )


@contextlib.contextmanager
def _without_patterns(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives the path, or a link to it where TensorFlow would read it as a pattern."""
    if not re.search(r"[][*?\\]", str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder, "checkpoint")
        link.symlink_to(path.absolute())
        yield link


def _read(path: pathlib.Path, state: Mapping[str, tf.Module]) -> None:
    try:
        with _without_patterns(path) as plain:
            reader = tf.train.Checkpoint(**state).read(str(plain / "state"))
            # Expecting a part only spares a page of warnings; what is missing still
            # raises.
            reader.expect_partial().assert_consumed()
    except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise manifests.CheckpointError(
            f"a checkpoint must be of this model, got {str(path)!r} ({reason}): "
            "train the run again"
        ) from error
