"""Checkpoints of a run: saved atomically, and restored only if intact.

    state = {"model": model, "optimizer": optimizer}
    checkpoints.save("runs/a/checkpoints", 1250, state, {"replicas": 1})
    step, metadata = checkpoints.restore("runs/a/checkpoints", state)

The trap: a run that is killed while it saves, and loses the previous checkpoint, too.
An older checkpoint is removed only after a newer one is on the disk.
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
    """Writes a checkpoint `step-NNNNNNNNNN`, then removes older ones.

    Args:
        directory: of the run's checkpoints, created if missing.
        step: number of updates so far.
        state: name -> the object with the variables.
        metadata: JSON values, which `restore` returns.
        keep: number of intact checkpoints to keep, this one included.

    Returns:
        The checkpoint's directory; `tf.train.Checkpoint` can read the file `state`.

    Raises:
        OSError: it can't be written; earlier checkpoints are unchanged.
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


def list_keys(state: Mapping[str, tf.Module]) -> dict[int, str]:
    """Returns the key of each variable in a checkpoint, by its id.

    A checkpoint names variables by the shortest path of attributes to them.
    """
    # As TensorFlow, breadth first, and with its escapes of dots and slashes.
    root = tf.train.Checkpoint(**state)
    keys: dict[int, str] = {}
    seen, level = {id(root)}, [("", root)]
    while level:
        following = []
        for path, node in level:
            for name, child in tf.train.TrackableView.children(node).items():
                if id(child) in seen:
                    continue
                seen.add(id(child))
                local = name.replace(".", "..").replace("/", ".S")
                following.append((f"{path}{local}/", child))
                if isinstance(child, tf.Variable):
                    keys[id(child)] = f"{path}{local}/.ATTRIBUTES/VARIABLE_VALUE"
        level = following
    return keys


def restore(
    directory: str | os.PathLike,
    state: Mapping[str, tf.Module],
    log: Callable[[str], None] = lambda text: None,
    prepare: Callable[[dict[str, Any]], None] = lambda metadata: None,
) -> tuple[int, dict[str, Any]]:
    """Restores variables, which must exist, from the newest intact checkpoint.

    Args:
        directory: of the run's checkpoints.
        state: name -> the object with the variables, as for `save`.
        log: called with a message for each damaged checkpoint.
        prepare: called with the metadata before the variables are read.

    Returns:
        The number of updates at the checkpoint, and its metadata.

    Raises:
        CheckpointError: no checkpoint is intact, or it is of another model.
    """
    directory = pathlib.Path(directory)
    damage = "none"
    for path in manifests.list_newest_first(directory):
        try:
            step, metadata = manifests.verify(path)
        except manifests.CheckpointError as error:
            damage = str(error).partition(", got ")[2].rpartition(": ")[0]
            log(f"skipped a damaged checkpoint: {damage}")
            continue
        prepare(metadata)
        _read(path, state)
        return step, metadata
    raise manifests.CheckpointError(
        f"a run must have an intact checkpoint, got {damage} in {str(directory)!r}: "
        "name another run, or train it again"
    )


@contextlib.contextmanager
def _without_patterns(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the path, or a link to it if TensorFlow would take it for a pattern."""
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
            # expect_partial only silences warnings; a missing variable still raises.
            reader.expect_partial().assert_consumed()
    except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise manifests.CheckpointError(
            f"a checkpoint must be of this model, got {str(path)!r} ({reason}): "
            "train the run again"
        ) from error
