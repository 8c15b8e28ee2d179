"""The directory of a run or sweep: who may write into it, and what it says.

    with directories.claim("runs/a") as path:
        directories.write_config(path, settings)

The trap: two processes that write into one directory. Here the kernel holds a lock on
it for as long as the process lives, and no longer.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from tfreg.runs import config

CONFIG, RESULT, CHECKPOINTS = "config.json", "result.json", "checkpoints"
SWEEP = "sweep.json"
_CONFIG_CHARS = 2**20  # More is no Config.
# What `checkpoints.write_whole` leaves where it is killed.
_LEFTOVER = re.compile(
    r"\.(config|result|sweep|choice|test|report)\.(json|csv|md|png)\.\w{8}"
)
_PARTS = (CONFIG, RESULT, CHECKPOINTS, "train", "validation")


class DirectoryError(ValueError):
    """A directory that can't be the run's; scripts end with exit status 4."""


class BusyError(RuntimeError):
    """Another process writes into the directory; scripts end with exit status 75."""


def get_path(settings: config.Config) -> pathlib.Path:
    """Returns where a run's directory is or will be."""
    return pathlib.Path(settings.logdir, settings.get_run_name())


def check(path: pathlib.Path, overwrite: bool = False, resume: bool = False) -> None:
    """Looks whether a run may be written there, and changes nothing.

    Args:
        path: of the run's directory.
        overwrite: whether a run that is there may be replaced.
        resume: whether a run that is there may be gone on with.

    Raises:
        DirectoryError: something is there that may not be touched.
        BusyError: a run that is there is in training.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise DirectoryError(
            f"logdir must be a directory, got the file {str(path.parent)!r}: "
            "choose another --logdir"
        )
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise DirectoryError(
            f"the run's directory must not be a file or a link, got {str(path)!r}: "
            "choose another --run_name"
        )
    if path.is_dir():
        with _hold(path):
            _refuse(path, overwrite, resume)


def _refuse(path: pathlib.Path, overwrite: bool, resume: bool) -> None:
    if all(map(_is_leftover, path.iterdir())):
        return
    links = [name for name in _PARTS if (path / name).is_symlink()]
    if links:
        raise DirectoryError(
            f"a run's files must be in its directory, got a link {links[0]} in "
            f"{str(path)!r}: choose another --run_name"
        )
    if not (overwrite or resume):
        raise DirectoryError(
            f"the run's directory must be new, got {str(path)!r}, which is there: "
            "choose another --run_name, go on with it by --resume, or replace it by "
            "--overwrite"
        )
    if not (path / CONFIG).is_file():
        word = "--resume" if resume else "--overwrite"
        raise DirectoryError(
            f"{word} must name a run's directory, got {str(path)!r} without "
            "a config.json: choose another --run_name"
        )


@contextlib.contextmanager
def _hold(path: pathlib.Path) -> Iterator[None]:
    # On the directory itself: no file is left, and the kernel frees it at any end.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"a run's directory must have one process, got {str(path)!r}, in which "
                "another one trains: wait for its end, or choose another name"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def claim(
    path: pathlib.Path, overwrite: bool = False, resume: bool = False
) -> Iterator[bool]:
    """Makes the directory where it is missing, and keeps other processes out.

    Args:
        path: of the run's directory.
        overwrite: whether a run that is there may be replaced; it is removed.
        resume: whether a run that is there may be gone on with.

    Yields:
        Whether there is a run to go on with.

    Raises:
        DirectoryError: as `check`.
        BusyError: as `check`.
        OSError: it can't be made.
    """
    from tfreg.training import checkpoints

    checkpoints.make_directory(path)
    with _hold(path):
        _refuse(path, overwrite, resume)  # Another process may have been faster.
        _clear(path, CONFIG, resume)
        checkpoints.remove_leftovers(path / CHECKPOINTS)
        yield resume and has_begun(path)


def _is_leftover(path: pathlib.Path) -> bool:
    return _LEFTOVER.fullmatch(path.name) is not None


def _clear(path: pathlib.Path, last: str, resume: bool) -> None:
    """Removes what a kill has left and, unless resumed, all that is there."""
    # `last` says whose the rest is, should this be killed.
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == last):
        if _is_leftover(entry) or not resume:
            _remove(entry)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_sweep(
    path: pathlib.Path, text: str, resume: bool = False, overwrite: bool = False
) -> None:
    """Looks whether a sweep may be written there, and changes nothing.

    Args:
        path: of the sweep's directory.
        text: all that decides the sweep's numbers.
        resume: whether a sweep that is there may be gone on with.
        overwrite: whether a sweep that is there may be replaced.

    Raises:
        DirectoryError: something is there that isn't a sweep, or another to be resumed,
            or a sweep that is to be neither resumed nor replaced.
    """
    is_link = path.is_symlink()
    if not path.exists() and not is_link:
        return
    if path.is_dir() and not is_link and all(map(_is_leftover, path.iterdir())):
        return
    if is_link or not (path / SWEEP).is_file():
        raise DirectoryError(
            f"the sweep's directory must be new or a sweep's, got {str(path)!r}, "
            f"{'a link' if is_link else 'without a sweep.json'}: choose another --name"
        )
    if overwrite:
        return
    if not resume:
        raise DirectoryError(
            f"the sweep's directory must be new, got {str(path)!r}, which is there: "
            "go on with it by --resume, replace it by --overwrite, or choose another "
            "--name"
        )
    if (path / SWEEP).read_bytes() != text.encode():
        raise DirectoryError(
            f"--resume must go on with the same sweep, got other settings than those "
            f"in {str(path / SWEEP)!r}: repeat its command, or choose another --name"
        )


@contextlib.contextmanager
def claim_sweep(
    path: pathlib.Path, text: str, resume: bool = False, overwrite: bool = False
) -> Iterator[None]:
    """Makes the directory with its sweep.json, and keeps other processes out.

    Args: as for `check_sweep`; a sweep that may be replaced is removed.

    Raises:
        DirectoryError: as `check_sweep`.
        BusyError: another process sweeps there.
        OSError: it can't be made.
    """
    from tfreg.training import checkpoints

    with checkpoints.writing(path):
        checkpoints.make_directory(path)
    with _hold(path):
        check_sweep(path, text, resume, overwrite)
        _clear(path, SWEEP, resume)
        checkpoints.write_whole(path / SWEEP, text)
        yield


def has_begun(path: pathlib.Path) -> bool:
    """Tells whether there is a run to go on with, or what is left of one."""
    from tfreg.training import checkpoints

    # Events come after the first checkpoint: without either, nothing is lost.
    found = checkpoints.list_newest_first(path / CHECKPOINTS)
    return bool(found) or (path / "train").exists() or (path / RESULT).exists()


def remove_result(path: pathlib.Path) -> None:
    """Removes the result of fewer epochs, before config.json says that there are more.

    Raises:
        OSError: it can't be removed.
    """
    from tfreg.training import checkpoints

    (path / RESULT).unlink(missing_ok=True)
    checkpoints.sync(path)


def write_config(path: pathlib.Path, settings: config.Config) -> None:
    """Writes config.json.

    Raises:
        OSError: it can't be written.
    """
    from tfreg.training import checkpoints

    checkpoints.write_whole(path / CONFIG, settings.to_json())


def read_config(path: str | os.PathLike) -> config.Config:
    """Returns the Config in a run's config.json.

    Raises:
        DirectoryError: it can't be read, or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return config.from_json(file.read(_CONFIG_CHARS))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DirectoryError(
            f"a run's config.json must be whole, got {str(path)!r} ({reason}): "
            "name a run that is there"
        ) from None


def read_run(path: str | os.PathLike) -> config.Config:
    """Returns the Config of the run in a directory, wherever it was moved to.

    Raises:
        DirectoryError: as `read_config`, or the directory can't be a run's.
    """
    path = pathlib.Path(path)
    settings = read_config(path / CONFIG)
    try:
        return dataclasses.replace(
            settings, logdir=str(path.parent), run_name=path.absolute().name
        )
    except ValueError as error:
        raise DirectoryError(str(error)) from None


def check_same(path: pathlib.Path, settings: config.Config) -> None:
    """Looks whether a run that is there, if one is, can be gone on with.

    Raises:
        DirectoryError: it is another one, or its config can't be read.
    """
    if not (path / CONFIG).exists():
        return
    there = read_config(path / CONFIG)
    differences = there.get_differences(settings)
    if differences:
        raise DirectoryError(
            f"--resume must have the config of {str(path)!r}, got others than its "
            f"{'; '.join(differences)}: leave them out, or choose another --run_name"
        )


def read_finished(path: pathlib.Path, settings: config.Config) -> dict[str, Any] | None:
    """Returns the result of a run that has nothing left to train, or None."""
    result = path / RESULT
    if not result.is_file():
        return None
    there = read_config(path / CONFIG)
    if settings.epochs > there.epochs:
        return None
    # A damaged one is made again.
    with contextlib.suppress(ValueError, RecursionError):
        done = json.loads(result.read_text(encoding="utf-8"))
        if isinstance(done, dict) and _has_losses(done.get("test")):
            return done
    return None


def _has_losses(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(v, float) for v in found.values())
