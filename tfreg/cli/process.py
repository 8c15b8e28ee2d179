"""A command as a process: its streams, its signals, errors as a sentence and a status.

    status = process.run(lambda: 0)

The statuses are 0 done, 2 wrong usage, 3 data, 4 a checkpoint or directory that doesn't
fit, 5 a loss that isn't finite, 6 disk or I/O, 75 another worker gone or the directory
in use, 130 and 143 interrupted.

The trap: TensorFlow takes seconds to import. Here it comes when a command asks for it.
"""

import contextlib
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

# By the classes' names: what isn't imported hasn't been raised.
STATUSES = {
    "tfreg.cli.process.UsageError": 2,
    "tfreg.data.arrays.DataError": 3,
    "tfreg.runs.directories.DirectoryError": 4,
    "tfreg.training.manifests.CheckpointError": 4,
    "tfreg.training.loop.LossError": 5,
    "tfreg.runs.directories.BusyError": 75,
    "tfreg.runs.runner.WorkerError": 75,
    "builtins.OSError": 6,
    "builtins.ValueError": 2,
}


class UsageError(ValueError):
    """A command line that can't be read."""


class Interruption(Exception):
    """A command that was asked to stop, and has; with its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def tell(text: str) -> None:
    """Prints a sentence that is no result."""
    print(text, file=sys.stderr, flush=True)


def open_streams() -> None:
    """Opens what the caller has closed: the next file would get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, file)


def _end(number: int, stderr: int) -> None:
    if os.isatty(1):
        os.write(1, b"\x1b[?25h\n")  # The progress bar hides the cursor.
    name = signal.Signals(number).name
    os.write(
        stderr, f"error: ended at once by {name}: nothing more is saved\n".encode()
    )
    os._exit(128 + number)


@contextlib.contextmanager
def watch_signals(
    is_noting: Callable[[], bool] = lambda: False,
) -> Iterator[list[int]]:
    """Ends the process at once at SIGINT or SIGTERM, or notes the first in a list.

    A thread watches: Python's own handlers have to wait while TensorFlow compiles.

    Args:
        is_noting: whether there is something to save, so that the first signal is
            noted only, and the second one ends the process.

    Yields:
        The list.
    """
    caught: list[int] = []
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    stderr = os.dup(2)  # Also while TensorFlow's notices are held back.

    def watch() -> None:
        while number := os.read(receiver, 1):
            if caught or not is_noting():
                _end(number[0], stderr)
            caught.append(number[0])
            if not select.select([receiver], [], [], 1)[0]:
                print("stopping soon; once more to stop at once", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    wakeup = signal.set_wakeup_fd(sender)  # First: a signal in between is not lost.
    handlers = {n: signal.signal(n, lambda number, frame: None) for n in numbers}
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield caught
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(sender)
        thread.join()
        os.close(receiver)
        os.close(stderr)


@contextlib.contextmanager
def _hold_notices() -> Iterator[None]:
    """Drops what TensorFlow says as it starts, whatever its level is, but not at 0."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        yield
        return
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def import_tensorflow() -> None:
    """Imports TensorFlow and what trains, in seconds and silence."""
    with _hold_notices():
        import tensorflow as tf

        from tfreg.runs import runner

        del runner
        tf.config.list_physical_devices()  # Complains where there is no GPU.


@contextlib.contextmanager
def stop_training(kept: str) -> Iterator[Callable[[], bool]]:
    """Has the first SIGINT or SIGTERM end the training at its next question.

    Args:
        kept: what is told of what was saved then.

    Yields:
        What training asks. Until it asks for the first time nothing is lost, and a
        signal ends the process at once.

    Raises:
        Interruption: the training has ended so.
    """
    from tfreg.training import trainer

    begun = threading.Event()
    with watch_signals(begun.is_set) as caught:

        def is_interrupted() -> bool:
            begun.set()
            return bool(caught)

        try:
            yield is_interrupted
        except trainer.Interrupted:
            tell(f"interrupted by {signal.Signals(caught[0]).name}: {kept}")
            raise Interruption(128 + caught[0]) from None


def run(command: Callable[[], int]) -> int:
    """Runs a command; a user's mistake becomes a sentence and an exit status."""
    open_streams()
    try:
        with watch_signals():
            status = command()
        sys.stdout.flush()  # A full disk and a closed pipe show here.
        return status
    except Interruption as stopped:
        return stopped.status
    except Exception as error:
        names = (f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__)
        for name in names:
            if name in STATUSES:
                _complain(_describe(error))
                return STATUSES[name]
        raise


def _complain(sentence: str) -> None:
    try:
        print(f"error: {sentence}", file=sys.stderr, flush=True)
    except OSError:  # The status tells it, too.
        sys.stderr = io.StringIO()  # Python flushes it at exit, and ends with 120.


def _describe(error: Exception) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is None:
        sys.stdout = io.StringIO()  # Python flushes it at exit, and complains.
        return f"the output must be written, got {error.strerror}: write it elsewhere"
    return (
        f"{error.filename!r} must be readable or writable, got {error.strerror}: "
        "choose another place, or make room"
    )
