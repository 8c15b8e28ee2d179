"""Files that appear whole or not at all: JSON and the state of a run.

    checkpoints.write_whole("runs/a/config.json", text)
    state = {"model": model, "optimizer": optimizer}
    checkpoints.save("runs/a/checkpoints", 1250, state, facts={"replicas": 1})
    step, facts = checkpoints.restore("runs/a/checkpoints", state)

The trap: a file that a full disk or a kill leaves half written and somebody reads. Here
a checkpoint has a manifest with the sha256 of each file, and is read if they agree.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

# old-: what had the name, while a step is saved once more; it sorts before the new one.
_NAME = re.compile(r"(?:old-)?step-\d{10}")
_ASIDE = ".aside"
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 2**20  # More is no manifest, and isn't read.


class CheckpointError(ValueError):
    """A checkpoint that isn't there or doesn't fit; scripts end with exit status 4."""


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turns what Python and TensorFlow raise as they write into one OSError.

    Raises:
        OSError: names `path` and the reason in a sentence.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        # TensorFlow says {{op}} PATH; REASON [Op:op], and more in other lines.
        got = str(reason).partition("\n")[0].partition(" [Op:")[0].rpartition("; ")[2]
        raise OSError(
            f"{os.fspath(path)!r} must be written, got {got}: make room on the "
            "disk, or choose another logdir"
        ) from error


def sync(path: pathlib.Path) -> None:
    """Makes a file's content, or a directory's names, outlast a power cut.

    Raises:
        OSError: it can't be; the error has `path` as its filename.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # Python knows a number here and no name.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def make_directory(path: pathlib.Path) -> None:
    """Makes a directory, and those above it, so that they outlast a power cut.

    Raises:
        OSError: it can't be made; the error has a filename.
    """
    missing = [path, *path.parents]
    missing = missing[: next(i for i, at in enumerate(missing) if at.exists())]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync(made.parent)


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, so that it is there whole or not at all.

    Raises:
        OSError: it can't be written; what was at `path` is as it was.
    """
    path = pathlib.Path(path)
    with writing(path):
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        sync(path.parent)


def save(
    directory: str | os.PathLike,
    step: int,
    state: Mapping[str, tf.Module],
    facts: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> pathlib.Path:
    """Writes a checkpoint `step-NNNNNNNNNN` and then removes older ones.

    Args:
        directory: of the run's checkpoints, made where missing.
        step: number of updates that the state has seen.
        state: name -> what has the variables.
        facts: JSON values that `restore` gives back.
        keep: how many whole checkpoints stay, this one included.

    Returns:
        The checkpoint's directory, readable by `tf.train.Checkpoint` as `state`.

    Raises:
        OSError: it can't be written; earlier checkpoints are as they were.
    """
    directory = pathlib.Path(directory)
    path, aside = directory / f"step-{step:010d}", directory / _ASIDE
    old = directory / f"old-{path.name}"
    with writing(path):
        make_directory(directory)
        remove_leftovers(directory)
        aside.mkdir()
        try:
            _fill(aside, {"step": step, "facts": dict(facts or {})}, state)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.rename(path, old)
            os.rename(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        sync(directory)
        shutil.rmtree(old, ignore_errors=True)
        _prune(directory, keep)
    return path


def _fill(
    aside: pathlib.Path, manifest: dict[str, Any], state: Mapping[str, tf.Module]
) -> None:
    """Writes the state's files and their manifest, down to the disk."""
    tf.train.Checkpoint(**state).write(str(aside / "state"))
    manifest["files"] = {file.name: _hash(file) for file in sorted(aside.iterdir())}
    text = json.dumps(manifest, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    (aside / _MANIFEST).write_text(f"{text}\n{seal}\n", encoding="utf-8")
    for file in (*aside.iterdir(), aside):
        sync(file)


def _hash(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def remove_leftovers(directory: pathlib.Path) -> None:
    """Removes what a run that was killed has left half written."""
    shutil.rmtree(directory / _ASIDE, ignore_errors=True)


def list_newest_first(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the directories that have a checkpoint's name, whole or not."""
    entries = directory.iterdir() if directory.is_dir() else []
    paths = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    return sorted(paths, key=lambda path: (path.name[-10:], path.name), reverse=True)


def _prune(directory: pathlib.Path, keep: int) -> None:
    """Removes what is older than `keep` checkpoints that are whole."""
    num_whole = 0
    for path in list_newest_first(directory):
        if num_whole >= keep:
            shutil.rmtree(path)
            continue
        with contextlib.suppress(CheckpointError):
            verify(path)
            num_whole += 1


def verify(path: pathlib.Path) -> tuple[int, dict[str, Any]]:
    """Returns step and facts of a checkpoint whose files are those of its manifest.

    Raises:
        CheckpointError: a file is missing, damaged or not of the checkpoint.
    """
    name = path / _MANIFEST
    try:
        with open(name, "rb") as file:
            text, _, seal = file.read(_MANIFEST_BYTES).decode().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != seal.strip():
            raise ValueError("another sha256")
        manifest = json.loads(text)
        files, step, facts = (manifest[key] for key in ("files", "step", "facts"))
        if step != int(path.name[-10:]):
            raise ValueError(f"it is of step {step}")
        for entry in path.iterdir():
            name = entry
            wanted = None if entry.name == _MANIFEST else files.pop(entry.name)
            if entry.is_symlink() or wanted not in (None, _hash(entry)):
                raise ValueError("another sha256")
        if files:
            name = path / min(files)
            raise ValueError("missing")
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"a checkpoint's files must be as they were written, got {str(name)!r} "
            f"({reason}): use another checkpoint"
        ) from None
    return step, facts


def restore(
    directory: str | os.PathLike,
    state: Mapping[str, tf.Module],
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[int, dict[str, Any]]:
    """Reads the newest whole checkpoint into variables that are made already.

    Args:
        directory: of the run's checkpoints.
        state: name -> what has the variables, as when it was saved.
        tell: is given a sentence for each damaged checkpoint that is passed over.

    Returns:
        The number of updates that the state has seen, and the facts.

    Raises:
        CheckpointError: there is none that is whole, or it is of another model.
    """
    directory = pathlib.Path(directory)
    damage = "none"
    for path in list_newest_first(directory):
        try:
            step, facts = verify(path)
        except CheckpointError as error:
            damage = str(error).partition(", got ")[2].rpartition(": ")[0]
            tell(f"passed over a damaged checkpoint: {damage}")
            continue
        _read(path, state)
        return step, facts
    raise CheckpointError(
        f"a run must have a whole checkpoint, got {damage} in {str(directory)!r}: "
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
        raise CheckpointError(
            f"a checkpoint must be of this model, got {str(path)!r} ({reason}): "
            "train the run again"
        ) from error
