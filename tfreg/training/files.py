"""Files that appear complete or not at all, and outlast a power cut.

    files.make_directory(pathlib.Path("runs/a"))
    files.write("runs/a/config.json", settings.to_json())

The trap: a file that a full disk or a kill leaves half written and somebody reads. Here
it is written under another name, synced, and renamed.
"""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Collection, Iterator


@contextlib.contextmanager
def explain_errors(path: str | os.PathLike, *others: type[Exception]) -> Iterator[None]:
    """Turns an error of writing into an OSError that a user understands.

    Args:
        path: what is written.
        others: errors to turn beside OSError, such as tf.errors.OpError.

    Raises:
        OSError: names `path` and the reason in a sentence.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except kinds as error:
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
    above = [path, *path.parents]
    missing = above[: next(i for i, folder in enumerate(above) if folder.exists())]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, that appears complete or not at all.

    Raises:
        OSError: it can't be written; what was at `path` is as it was.
    """
    path = pathlib.Path(path)
    with explain_errors(path):
        # Its name is one of those that `is_leftover` knows.
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
    """Tells whether a killed `write` of a file with one of the names left this."""
    match = re.fullmatch(r"\.(.+)\.\w{8}", path.name)
    return match is not None and match[1] in names
