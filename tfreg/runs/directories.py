"""The directory of a run or sweep: locks it, and reads and writes its files.

    path = directories.get_path(settings)
    with directories.claim(path, overwrite=True) as claim:
        claim.prepare()
        directories.write_config(path, settings.to_json())

The trap: two processes that write into the same directory. A lock of the kernel
prevents it, and ends with the process that holds it.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from tfreg import _checks
from tfreg.runs import config, fields
from tfreg.training import files, manifests

CONFIG, RESULT, SWEEP = "config.json", "result.json", "sweep.json"
STATUS = "status.json"
DATA = "data.json"  # What the run has learnt of its data.
_CONFIG_CHARS = 2**20  # A longer file isn't a Config.
_TABLES = ("sweep.csv", "choice.json", "test.json", "report.md", "report.png")
# A kill may leave temporary copies.
_WRITTEN = (CONFIG, RESULT, DATA, STATUS, SWEEP, *_TABLES)
_PARTS = (CONFIG, RESULT, STATUS, manifests.FOLDER, "train", "validation", "test")


class DirectoryError(ValueError):
    """A directory can't be used for the run; scripts end with exit status 4."""


class BusyError(RuntimeError):
    """Another process uses the directory; scripts end with exit status 75."""


def get_path(settings: config.Config) -> pathlib.Path:
    """Returns the path of a run's directory."""
    return pathlib.Path(settings.logdir, settings.get_run_name())


def _refuse(path: pathlib.Path, overwrite: bool, resume: bool, name: str) -> None:
    if all(map(_is_leftover, path.iterdir())):
        return
    links = [name for name in _PARTS if (path / name).is_symlink()]
    if links:
        raise DirectoryError(
            f"a run's files must be in its directory, got a link {links[0]} in "
            f"{str(path)!r}: choose another {name}"
        )
    if not (overwrite or resume):
        raise DirectoryError(
            f"the run's directory must be new, got {str(path)!r}, which exists: "
            f"choose another {name}, resume it with --resume, or replace it with "
            "--overwrite"
        )
    if not (path / CONFIG).is_file():
        word = "--resume" if resume else "--overwrite"
        if name == "directory":
            word = "a Trainer"
        raise DirectoryError(
            f"{word} must name a run's directory, got {str(path)!r} without "
            f"a config.json: choose another {name}"
        )


@contextlib.contextmanager
def _lock(path: pathlib.Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    # On the directory itself: no lock file remains, and the kernel releases the lock.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"a run's directory must have one process, got {str(path)!r}, in which "
                "another one trains: wait until it ends, or choose another name"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_busy(path: pathlib.Path) -> bool:
    """Returns whether a process holds the lock of a run's directory."""
    try:
        with _lock(path, fcntl.LOCK_SH):
            return False
    except BusyError:
        return True


class Claim:
    """A lock on a directory, which changes nothing in it before `prepare`.

    Args:
        path: of the directory.
        last: the file to remove last, since it identifies the directory.
        check: raises if the directory's content may not be changed.
        keeps: whether to keep the directory's content.
    """

    def __init__(
        self,
        path: pathlib.Path,
        last: str,
        check: Callable[[], None],
        keeps: bool,
    ) -> None:
        self._path, self._last, self._check, self._keeps = path, last, check, keeps
        self._lock: contextlib.ExitStack | None = None

    def __enter__(self) -> "Claim":
        if self._path.is_dir():
            self._acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def _acquire(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_lock(self._path))
            self._check()
            self._lock = stack.pop_all()

    def prepare(self) -> None:
        """Creates the directory, or removes the content that isn't kept.

        Raises:
            DirectoryError: another process has created it in the meantime.
            BusyError: another process uses it.
            OSError: it can't be created; the error has a filename.
        """
        if self._lock is None:
            files.make_directory(self._path)
            self._acquire()
        _clear(self._path, self._last, self._keeps)
        manifests.remove_leftovers(self._path / manifests.FOLDER)


@contextlib.contextmanager
def claim(
    path: pathlib.Path,
    overwrite: bool = False,
    resume: bool = False,
    name: str = "--run_name",
) -> Iterator[Claim]:
    """Locks a run's directory.

    Args:
        path: of the run's directory.
        overwrite: whether an existing run may be replaced.
        resume: whether an existing run may be resumed.
        name: what the user chooses the directory by, for the messages.

    Yields:
        The claim, whose `prepare` creates the directory or removes the run to replace.

    Raises:
        DirectoryError: the path has content that may not be changed.
        BusyError: another process trains the run.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise DirectoryError(
            f"logdir must be a directory, got the file {str(path.parent)!r}: "
            f"choose another {'--logdir' if name == '--run_name' else name}"
        )
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise DirectoryError(
            f"the run's directory must not be a file or a link, got {str(path)!r}: "
            f"choose another {name}"
        )

    def check() -> None:
        _refuse(path, overwrite, resume, name)

    with Claim(path, CONFIG, check, resume) as claimed:
        yield claimed


def _is_leftover(path: pathlib.Path) -> bool:
    return files.is_leftover(path, _WRITTEN)


def _clear(path: pathlib.Path, last: str, resume: bool) -> None:
    """Removes the leftovers of a kill and, unless resumed, everything."""
    # `last` identifies the directory, if this process is killed now.
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == last):
        if _is_leftover(entry) or not resume:
            _remove(entry)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _refuse_sweep(path: pathlib.Path, text: str, resume: bool, overwrite: bool) -> None:
    if path.is_dir() and all(map(_is_leftover, path.iterdir())):
        return
    if not (path / SWEEP).is_file():
        raise DirectoryError(
            f"the sweep's directory must be new or a sweep's, got {str(path)!r}, "
            "without a sweep.json: choose another --name"
        )
    if overwrite:
        return
    if not resume:
        raise DirectoryError(
            f"the sweep's directory must be new, got {str(path)!r}, which exists: "
            "resume it with --resume, replace it with --overwrite, or choose another "
            "--name"
        )
    if _read_sweep(path)[0] != json.loads(text):
        raise DirectoryError(
            "--resume must have the settings of the same sweep, got others than those "
            f"in {str(path / SWEEP)!r}: repeat its command, or choose another --name"
        )


def read_data_hashes(path: pathlib.Path) -> list[str]:
    """Returns the hashes of the data that a sweep was trained on so far, if any.

    Raises:
        DirectoryError: its sweep.json isn't intact.
    """
    return _read_sweep(path)[1] if (path / SWEEP).exists() else []


def _read_sweep(path: pathlib.Path) -> tuple[dict[str, Any], list[str]]:
    """Returns the plan of a sweep, and the hashes of its data."""
    _checks.check_regular(path / SWEEP, DirectoryError)
    try:
        plan = json.loads((path / SWEEP).read_text(encoding="utf-8"))
        return plan, plan.pop("data", [])
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DirectoryError(
            f"a sweep's sweep.json must be intact, got {str(path / SWEEP)!r} "
            f"({error}): restore it, replace the sweep with --overwrite, or choose "
            "another --name"
        ) from None


@contextlib.contextmanager
def claim_sweep(
    path: pathlib.Path, text: str, resume: bool = False, overwrite: bool = False
) -> Iterator[Claim]:
    """Locks a sweep's directory.

    Args:
        path: of the sweep's directory.
        text: the plan as JSON.
        resume: whether an existing sweep may be resumed.
        overwrite: whether an existing sweep may be replaced.

    Yields:
        The claim, whose `prepare` creates the directory or removes the sweep to
        replace.

    Raises:
        DirectoryError: the path isn't a sweep's; or it is, and the sweep is another
            one to resume, or to be neither resumed nor replaced.
        BusyError: another process uses the directory.
    """
    if path.is_symlink():
        raise DirectoryError(
            f"the sweep's directory must be new or a sweep's, got {str(path)!r}, "
            "a link: choose another --name"
        )

    def check() -> None:
        _refuse_sweep(path, text, resume, overwrite)

    if path.exists() and not path.is_dir():
        check()
    with Claim(path, SWEEP, check, resume) as claimed:
        yield claimed


def has_begun(path: pathlib.Path) -> bool:
    """Returns whether a directory has a run to resume, also a damaged one."""
    # Events come after the first checkpoint: without either, nothing is lost.
    saved = manifests.list_newest_first(path / manifests.FOLDER)
    return bool(saved) or (path / "train").exists() or (path / RESULT).exists()


def write_config(path: pathlib.Path, text: str) -> None:
    """Writes config.json, and removes the result of an earlier, shorter run.

    Args:
        path: of the run's directory.
        text: the content, JSON.

    Raises:
        OSError: the file can't be written.
    """
    (path / RESULT).unlink(missing_ok=True)
    files.sync(path)
    files.write(path / CONFIG, text)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON object in a run's config.json.

    Raises:
        DirectoryError: it can't be read, or is none.
    """
    _checks.check_regular(path, DirectoryError)
    try:
        with open(path, encoding="utf-8") as file:
            content = fields.parse_json(file.read(_CONFIG_CHARS))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        return content
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DirectoryError(
            f"a run's {path.name} must be intact, got {str(path)!r} ({reason}): "
            "choose another directory"
        ) from None


def read_config(path: str | os.PathLike) -> config.Config:
    """Returns the Config in a run's config.json.

    Raises:
        DirectoryError: it can't be read, or isn't a Config.
    """
    _checks.check_regular(path, DirectoryError)
    try:
        with open(path, encoding="utf-8") as file:
            return config.from_json(file.read(_CONFIG_CHARS))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DirectoryError(
            f"a run's config.json must be intact, got {str(path)!r} ({reason}): "
            "name an existing run"
        ) from None


def read_run(path: str | os.PathLike) -> config.Config:
    """Returns the Config of the run in a directory, which may have been moved.

    Raises:
        DirectoryError: as for `read_config`, or the directory's name isn't valid.
    """
    path = pathlib.Path(path)
    settings = read_config(path / CONFIG)
    try:
        return dataclasses.replace(
            settings, logdir=str(path.parent), run_name=path.absolute().name
        )
    except ValueError as error:
        raise DirectoryError(str(error)) from None


def read_finished(path: pathlib.Path, settings: config.Config) -> dict[str, Any] | None:
    """Returns the result of a run that is finished already, or None.

    Args:
        path: of the run's directory, which may not exist.
        settings: the Config to resume the run with.

    Raises:
        DirectoryError: the existing run has another Config, or one that can't be read.
    """
    if not (path / CONFIG).exists():
        return None
    saved = read_config(path / CONFIG)
    differences = saved.get_differences(settings)
    if differences:
        raise DirectoryError(
            f"--resume must have the config of {str(path)!r}, got others than its "
            f"{'; '.join(differences)}: leave them out, or choose another --run_name"
        )
    if settings.epochs > saved.epochs:
        return None
    # A damaged result is computed again.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        result = json.loads((path / RESULT).read_text(encoding="utf-8"))
        if isinstance(result, dict) and _has_losses(result.get("test")):
            return result
    return None


def _has_losses(test: Any) -> bool:
    return isinstance(test, dict) and all(isinstance(v, float) for v in test.values())
