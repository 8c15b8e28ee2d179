"""Flags made from Config's fields, and errors as one sentence with an exit status.

    if __name__ == "__main__":
        sys.exit(commandline.run(main))

The statuses are 0 done, 2 wrong usage, 3 data, 4 a checkpoint or directory that doesn't
fit, 5 a loss that isn't finite, 6 disk or I/O, 75 another worker gone or the directory
in use, 130 and 143 interrupted.
"""

import contextlib
import dataclasses
import io
import os
import select
import signal
import sys
import textwrap
import threading
import typing
from collections.abc import Callable, Container, Iterator, Sequence


def _open_streams() -> None:
    """Opens what the caller has closed: the next file would get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, file)


_open_streams()
_STDERR = os.dup(2)  # Where a signal is told while TensorFlow's notices are held back.


def _end(number: int) -> None:
    if os.isatty(1):
        os.write(1, b"\x1b[?25h\n")  # The progress bar hides the cursor.
    name = signal.Signals(number).name
    os.write(
        _STDERR, f"error: ended at once by {name}: nothing more is saved\n".encode()
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

    def watch() -> None:
        while number := os.read(receiver, 1):
            if caught or not is_noting():
                _end(number[0])
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


@contextlib.contextmanager
def _hold_notices() -> Iterator[None]:
    """Drops what TensorFlow says as it starts, whatever its level is, but not at 0."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(_STDERR, 2)


with watch_signals(), _hold_notices():
    import tensorflow as tf
    from absl import flags

    from tfreg import data, runs
    from tfreg.runs import config, directories
    from tfreg.training import loop, manifests, trainer

    tf.config.list_physical_devices()  # Looks for GPUs, and complains where none is.


_KINDS = {str: "text", int: "a whole number", float: "a number"}
_HELP = ("h", "help", "helpshort", "helpfull")


def tell(text: str) -> None:
    """Prints a sentence that is no result."""
    print(text, file=sys.stderr, flush=True)


class UsageError(ValueError):
    """A command line that can't be read."""


class Interruption(Exception):
    """A command that was asked to stop, and has; with its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


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


def define_config(values: flags.FlagValues, others: Container[str] = ()) -> None:
    """Defines a flag for each field of Config but `others`, None unless it is given."""
    for field in dataclasses.fields(config.Config):
        if field.name in others:
            continue
        several = typing.get_origin(config.get_types(field)[0]) is tuple
        define = flags.DEFINE_list if several else flags.DEFINE_string
        define(field.name, None, field.metadata["help"], flag_values=values)


def make_config(
    values: flags.FlagValues, base: config.Config, others: Container[str] = ()
) -> config.Config:
    """Returns `base` with the fields, but `others`, that were given as flags.

    Raises:
        ValueError: a field has a value that isn't allowed.
        UsageError: a flag can't be read, or a scale is given that penalizes nothing.
    """
    given: dict[str, typing.Any] = {}
    for field in dataclasses.fields(config.Config):
        if field.name in others:
            continue
        value = values[field.name].value
        if value is None:
            continue
        kind = config.get_types(field)[0]
        if typing.get_origin(kind) is tuple:
            member = typing.get_args(kind)[0]
            given[field.name] = tuple(
                _parse(f"each of {field.name}", v, member) for v in value
            )
        else:
            given[field.name] = _parse(field.name, value, kind)
    settings = dataclasses.replace(base, **given)
    for name in ("scale", "reg_on"):
        if name in given and "reg" not in given and settings.reg == "none":
            raise UsageError(
                f"{name} must stand with --reg, got {name}={values[name].value!r} "
                "without: write --reg=l2 as well, or --reg=none"
            )
    return settings


def _parse(name: str, text: str, kind: type) -> typing.Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(
            f"{name} must be {_KINDS[kind]}, got {text!r}: see --help"
        ) from None


def parse(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Reads a command line into flags.

    Raises:
        UsageError: an unknown flag, no value, or a word that isn't a flag.
    """
    try:
        rest = values(list(argv))[1:]
    except flags.Error as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{reason}: see --help") from None
    if rest:
        raise UsageError(
            f"every argument must be a flag, got {rest[0]!r}: write --name=value"
        )
    for name in values:
        if values[name].value in ("", []):
            raise UsageError(f"{name} must have a value, got '': leave the flag out")


def wants_help(argv: Sequence[str]) -> bool:
    """Returns whether the command line asks for help, in any of absl's ways."""
    return any(arg[:1] == "-" and arg.lstrip("-") in _HELP for arg in argv[1:])


def format_help(usage: str, values: flags.FlagValues) -> str:
    """Returns the usage and all flags in the groups of Config's fields."""
    groups: dict[str, list[str]] = {}
    fields = {field.name: field for field in dataclasses.fields(config.Config)}
    for name in values:
        flag = values[name]
        group, text = "this command", flag.help or ""
        if name in fields and not isinstance(flag, flags.MultiFlag):
            group = fields[name].metadata["group"]
            default = fields[name].default
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            text += "" if default is None else f" [{default}]"
        head = f"  --{name}" if flag.boolean else f"  --{name}=..."
        first, *others = textwrap.wrap(" ".join(text.split()), 56)
        lines = [f"{head:23} {first}", *(" " * 24 + line for line in others)]
        groups.setdefault(group, []).extend(lines)
    sections = ["\n".join([group, *lines]) for group, lines in groups.items()]
    return "\n\n".join([usage.strip(), *sections]) + "\n"


def run(command: Callable[[], int]) -> int:
    """Runs a command; a user's mistake becomes a sentence and an exit status."""
    statuses = [
        (UsageError, 2),
        (data.DataError, 3),
        ((directories.DirectoryError, manifests.CheckpointError), 4),
        (loop.LossError, 5),
        ((runs.WorkerError, directories.BusyError), 75),
        (OSError, 6),
        (ValueError, 2),
    ]
    try:
        with watch_signals():
            status = command()
        sys.stdout.flush()  # A full disk and a closed pipe show here.
        return status
    except Interruption as stopped:
        return stopped.status
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        for kinds, status in statuses:
            if isinstance(error, kinds):  # type: ignore[arg-type]
                _complain(_describe(error))
                return status
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
