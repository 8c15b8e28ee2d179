"""Writes files atomically, so that they survive a kill or a power cut.

    files.make_directory(pathlib.Path("runs/a"))
    files.write("runs/a/config.json", settings.to_json())

The trap: a file that is half written, after a kill or on a full disk. Files are written
under another name, synced and renamed.
"""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Collection, Iterator


@contextlib.contextmanager
def explain_errors(path: str | os.PathLike, *others: type[Exception]) -> Iterator[None]:
    """Converts an error of writing to an OSError with a message for users.

    Args:
        path: of the file.
        *others: errors to convert besides OSError, such as tf.errors.OpError.

    Raises:
        OSError: a sentence with `path` and the reason.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        # TensorFlow's messages are {{op}} PATH; REASON [Op:op], then other lines.
        got = str(reason).partition("\n")[0].partition(" [Op:")[0].rpartition("; ")[2]
        raise OSError(
            f"{os.fspath(path)!r} must be written, got {got}: free disk space, or "
            "choose another logdir"
        ) from error


def sync(path: pathlib.Path) -> None:
    """Syncs a file's content, or a directory's entries, to the disk.

    Raises:
        OSError: the sync failed; the error has `path` as its filename.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # fsync's error has no filename.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def make_directory(path: pathlib.Path) -> None:
    """Creates a directory and its parents, and syncs them to the disk.

    Raises:
        OSError: it can't be created; the error has a filename.
    """
    parents = [path, *path.parents]
    num_missing = next(i for i, folder in enumerate(parents) if folder.exists())
    missing = parents[:num_missing]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file atomically, text as UTF-8.

    Raises:
        OSError: it can't be written; an old file at `path` is unchanged.
    """
    path = pathlib.Path(path)
    with explain_errors(path):
        # `is_leftover` recognizes this name.
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


def is_leftover(path: pathlib.Path, names: Collection[str]) -> bool:
    """Returns whether a path is left by a killed `write` of a file in `names`."""
    match = re.fullmatch(r"\.(.+)\.\w{8}", path.name)
    return match is not None and match[1] in names
