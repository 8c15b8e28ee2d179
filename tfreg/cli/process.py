"""Runs a command as a process: streams, signals, and errors as a sentence and a status.

    status = process.run(lambda: 0)

The statuses are 0 done, 2 wrong usage, 3 data, 4 a wrong checkpoint or directory, 5 a
loss that isn't finite, 6 disk, I/O or memory, 75 another worker has stopped or the
directory is in use, 130 and 143 interrupted.

The trap: TensorFlow takes seconds to import. It is imported only if a command needs it.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator

from tfreg.runs import signals

# By name: a class that isn't imported can't have been raised.
STATUSES = {
    "tfreg.cli.process.UsageError": 2,
    "tfreg.data.files.DataError": 3,
    "tfreg.runs.directories.DirectoryError": 4,
    "tfreg.training.manifests.CheckpointError": 4,
    "tfreg.runs.weights.WeightsError": 4,
    "tfreg.training.recovery.LossError": 5,
    "tfreg.runs.directories.BusyError": 75,
    "tfreg.training.meeting.WorkerError": 75,
    "builtins.OSError": 6,
    "builtins.ValueError": 2,
}


class UsageError(ValueError):
    """A command line is wrong."""


def open_streams() -> None:
    """Opens streams that the caller has closed, so that no file gets their number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, file)


@contextlib.contextmanager
def _suppress_messages() -> Iterator[None]:
    """Drops TensorFlow's messages during its start, unless the log level is 0."""
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


def import_tensorflow(divides: bool = False) -> None:
    """Imports TensorFlow and the training code, without TensorFlow's messages.

    TensorFlow uses oneDNN, whose convolutions take a third of the time, by itself only
    on some processors, and there max pooling of no example aborts the process. The
    variable `TF_ENABLE_ONEDNN_OPTS` of the environment takes precedence.

    Args:
        divides: whether batches are divided, so that a part may have no example.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0" if divides else "1")
    with _suppress_messages():
        import tensorflow as tf

        from tfreg.runs import runner

        del runner
        tf.config.list_physical_devices()  # Prints errors if there is no GPU.


def run(command: Callable[[], int]) -> int:
    """Runs a command; a user's error becomes one sentence and an exit status."""
    open_streams()
    try:
        with signals.watch():
            status = command()
        sys.stdout.flush()  # Raises for a full disk or a closed pipe.
        return status
    except signals.Interrupted as stopped:
        return int(stopped.code or 0)
    except Exception as error:
        if _is_exhausted(error):
            _print_error(_describe(error))
            return 6
        names = (f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__)
        for name in names:
            if name in STATUSES:
                _print_error(_describe(error))
                return STATUSES[name]
        raise


def _print_error(sentence: str) -> None:
    # One line, whatever characters a name has that a library's reason repeats.
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in sentence)
    sentence = "".join(shown)
    try:
        print(f"error: {sentence}", file=sys.stderr, flush=True)
    except OSError:  # The exit status still reports the error.
        sys.stderr = io.StringIO()  # Python's flush at exit would change the status.


def _is_exhausted(error: Exception) -> bool:
    kind = type(error).__name__  # TensorFlow may not be imported.
    # What dlopen says where `ulimit -v` leaves no room for TensorFlow.
    is_unmapped = isinstance(error, ImportError) and "map segment" in str(error)
    is_memory = isinstance(error, MemoryError) or kind == "ResourceExhaustedError"
    return is_memory or is_unmapped


def _describe(error: Exception) -> str:
    if _is_exhausted(error):
        reason = str(error).strip().partition("\n")[0][:200] or "no more"
        return (
            f"a run must fit in the memory, got {reason}: choose a smaller model or "
            "batch, or raise the limit"
        )
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is None:
        sys.stdout = io.StringIO()  # Python's flush at exit would print an error.
        return f"the output must be written, got {error.strerror}: write it elsewhere"
    return (
        f"{error.filename!r} must be readable or writable, got {error.strerror}: "
        "choose another path, or free disk space"
    )
