"""What a run does, or how it has ended, in its status.json, for people and scripts.

    trainer = tfreg.Trainer(trained, directory="runs/mine")
    trainer.run(epochs=2)  # runs/mine/status.json is written as it goes
    print(status.format_table([pathlib.Path("runs")]))

The trap: a process that is killed says nothing. Whether one still trains is told by the
lock of the directory. This module doesn't import TensorFlow.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tfreg.runs import directories, signals
from tfreg.training import files, manifests

SECONDS = 10.0  # Between two writes, besides those of checkpoints.


@dataclasses.dataclass
class Status:
    """The content of status.json.

    Attributes:
        state: waiting, running, finished, interrupted or failed.
        reason: who is waited for, the signal, or the error in a sentence.
        step: number of updates so far.
        steps: number of updates of the whole run.
        saved: those in the last checkpoint; None before it.
        saved_at: when it was written; times are UTC, ISO 8601.
        updated_at: when this file was written.
        workers: `host`, `pid` and `state` of each, the chief first: running, ended, or
            lost where it said nothing any more.
        pid: of the process that writes the run.
        host: of this process.
    """

    state: str = "running"
    reason: str = ""
    step: int = 0
    steps: int = 0
    saved: int | None = None
    saved_at: str | None = None
    updated_at: str = ""
    workers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    pid: int = 0
    host: str = ""


def describe_process() -> dict[str, Any]:
    """Returns host and pid of this process."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


@contextlib.contextmanager
def waiting(path: pathlib.Path) -> Iterator[Callable[[str], None]]:
    """Locks a run, if it exists, and keeps its status.json while its chief waits.

    Args:
        path: of the directory of the run to resume.

    Yields:
        A function to call with those that are waited for.

    Raises:
        directories.DirectoryError: as for `directories.claim`.
        directories.BusyError: another process trains the run.
    """
    with directories.claim(path, resume=True):
        begun = (path / directories.CONFIG).is_file()
        status = read(path) if begun else Status()
        status = dataclasses.replace(status, workers=[], **describe_process())
        told = False

        def note(missing: str) -> None:
            nonlocal told
            signals.log(f"waiting for {missing}")
            status.state, status.reason, told = "waiting", f"for {missing}", begun
            if told:
                _write(path, status)

        try:
            yield note
        except BaseException as error:
            status.state, status.reason = _explain(error)
            if told:
                _write(path, status)
            raise


@contextlib.contextmanager
def kept(
    trainer: Any, epochs: int, workers: Sequence[dict[str, Any]] = ()
) -> Iterator[None]:
    """Keeps status.json of a trainer's directory while its run goes.

    Args:
        trainer: of the run.
        epochs: of the run.
        workers: `describe_process` of all workers.
    """
    from tfreg.runs import hooks  # They import TensorFlow.

    steps = epochs * trainer.loop.steps_per_epoch
    status = Status(steps=steps, step=trainer.num_steps, **describe_process())
    status.workers = [{**worker, "state": "running"} for worker in workers]
    path, written, lost = trainer.directory, time.monotonic(), ()
    for saved in manifests.list_newest_first(path / manifests.FOLDER)[:1]:
        status.saved, status.saved_at = int(saved.name[-10:]), _now(saved)

    def note(event: hooks.Event) -> None:
        nonlocal written
        status.step = event.step
        if isinstance(event, hooks.Saved):
            status.saved, status.saved_at = event.step, _now()
        elif time.monotonic() - written < SECONDS:
            return
        written = time.monotonic()
        _write(path, status)

    _write(path, status)
    trainer.hooks.append(note)
    try:
        yield
        status.state = "finished"
    except BaseException as error:
        status.state, status.reason = _explain(error)
        lost = getattr(error, "lost", ())  # Of a WorkerError.
        raise
    finally:
        status.step = trainer.num_steps
        for i, worker in enumerate(status.workers):
            worker["state"] = "lost" if i in lost else "ended"
        if note in trainer.hooks:
            trainer.hooks.remove(note)
        _write(path, status)


def _write(path: pathlib.Path, status: Status) -> None:
    status.updated_at = _now()
    with contextlib.suppress(OSError):  # The run's own files say what is wrong.
        text = json.dumps(dataclasses.asdict(status), indent=2)
        files.write(path / directories.STATUS, text + "\n")


def _now(path: pathlib.Path | None = None) -> str:
    """Returns the time now, or when a path was changed."""
    seconds = time.time() if path is None else path.stat().st_mtime
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="seconds")


def _explain(error: BaseException) -> tuple[str, str]:
    if isinstance(error, signals.Interrupted):
        return "interrupted", str(error)
    first = (str(error).strip() or "stopped").splitlines()[0][:300]
    return "failed", f"{type(error).__name__}: {first}"


def read(path: pathlib.Path) -> Status:
    """Returns the status of the run in a directory; `killed` if its process is gone."""
    has_ended = (path / directories.RESULT).is_file()
    status = Status("finished" if has_ended else "unknown")  # Of an earlier version.
    with contextlib.suppress(directories.DirectoryError, TypeError):
        status = Status(**directories.read_json(path / directories.STATUS))
    if directories.is_busy(path):
        status.state = "waiting" if status.state == "waiting" else "running"
    elif status.state in ("running", "waiting"):
        status.state = "killed"
    return status


def format_table(paths: Sequence[pathlib.Path]) -> str:
    """Returns a table of the runs in directories, and how to go on with each.

    Args:
        paths: of runs, or of directories that hold them.
    """
    rows: list[tuple[str, ...]] = [
        ("run", "state", "step", "saved at", "where", "go on by")
    ]
    for path in paths:
        inner = sorted(p.parent for p in path.glob(f"*/{directories.CONFIG}"))
        if (path / directories.CONFIG).is_file():
            inner = [path]
        rows += [row for each in inner for row in _make_rows(each)]
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Returns the lines of a table, with columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _make_rows(path: pathlib.Path) -> list[tuple[str, ...]]:
    """Returns the row of a run, and that of each worker if there are several."""
    status = read(path)
    state = f"{status.state}: {status.reason}" if status.reason else status.state
    if status.state == "running" and (seconds := _measure_silence(status)):
        state = f"running, silent for {seconds} s"
    is_own = True
    with contextlib.suppress(directories.DirectoryError):
        is_own = "trainer" in directories.read_json(path / directories.CONFIG)
    command = f"tfreg train --resume --run={shlex.quote(str(path))}"
    command = "its script, again" if is_own else command
    is_alive = status.state in ("running", "waiting")
    row = (
        str(path),
        state,
        f"{status.step}/{status.steps}" if status.steps else "",
        f"{status.saved} at {status.saved_at}" if status.saved_at else "",
        f"{status.pid} on {status.host}" if is_alive else "",
        "" if is_alive or status.state == "finished" else command,
    )
    workers = []
    for i, worker in enumerate(status.workers):
        is_known = is_alive or worker["state"] != "running"
        where = f"{worker['pid']} on {worker['host']}"
        cells = worker["state"] if is_known else "unknown", "", "", where, ""
        workers.append((f"  worker {i}", *cells))
    return [row, *(workers if len(workers) > 1 else [])]


def _measure_silence(status: Status) -> int:
    """Returns the seconds since the last write, 0 if there may have been none due."""
    if not status.updated_at:
        return 0
    written = datetime.datetime.fromisoformat(status.updated_at)
    seconds = int(time.time() - written.timestamp())
    return seconds if seconds > 3 * SECONDS else 0
