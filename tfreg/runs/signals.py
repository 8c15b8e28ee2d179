"""Signals: the first one lets a training stop in order, the second ends the process.

    with signals.watch(lambda: True) as caught:
        ...  # stop soon after `caught` has a number

The trap: Python's handlers wait while TensorFlow compiles, for minutes. A thread
watches.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator


class Interrupted(SystemExit):
    """A signal has stopped a run, which is saved; a script ends with its status.

    Attributes:
        is_saved: whether this process has saved it, not another worker.
        worker: number of the worker that got the signal; None: the only process.
    """

    is_saved = True
    worker: int | None = None

    def __str__(self) -> str:
        name = signal.Signals(int(self.code or 0) - 128).name
        return (
            name if self.worker is None else f"{name}, which worker {self.worker} got"
        )


def interrupt(number: int) -> Interrupted:
    """Returns the exception that ends a run at a signal; 1, as of True, is SIGINT."""
    return Interrupted(128 + (number if number > 1 else signal.SIGINT))


def log(text: str) -> None:
    """Prints a message on stderr."""
    print(text, file=sys.stderr, flush=True)


def _end(number: int, stderr: int) -> None:
    if os.isatty(1):
        os.write(1, b"\x1b[?25h\n")  # The progress bar hides the cursor.
    name = signal.Signals(number).name
    os.write(
        stderr, f"error: ended at once by {name}: nothing more is saved\n".encode()
    )
    os._exit(128 + number)


@contextlib.contextmanager
def watch(
    is_recording: Callable[[], bool] = lambda: False,
) -> Iterator[list[int]]:
    """Ends the process at SIGINT or SIGTERM, or records the first signal in a list.

    Args:
        is_recording: whether there is something to save, so that the first signal is
            only recorded and the second one ends the process.

    Yields:
        The list of recorded signals.
    """
    caught: list[int] = []
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    stderr = os.dup(2)  # Also while TensorFlow's messages are suppressed.

    def listen() -> None:
        while number := os.read(receiver, 1):
            if caught or not is_recording():
                _end(number[0], stderr)
            caught.append(number[0])
            if not select.select([receiver], [], [], 1)[0]:
                text = "stopping soon; send the signal again to stop at once"
                print(text, file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    wakeup = signal.set_wakeup_fd(sender)  # First, so that no signal is lost.
    handlers = {n: signal.signal(n, lambda number, frame: None) for n in numbers}
    thread = threading.Thread(target=listen, daemon=True)
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
def stop_in_order(
    kept: str, log: Callable[[str], None], has_begun: bool = True
) -> Iterator[Callable[[], int]]:
    """Lets training stop in order at the first SIGINT or SIGTERM.

    Args:
        kept: message that says what was saved.
        log: called with a message.
        has_begun: whether there is something to save already. If not, a signal ends the
            process at once until the function has been called.

    Yields:
        A function for training to call, which returns the number of a signal, or 0.

    Raises:
        Interrupted: training has stopped at a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # Only the main thread receives signals.
        return
    begun = threading.Event()
    if has_begun:
        begun.set()
    with watch(begun.is_set) as caught:

        def is_interrupted() -> int:
            begun.set()
            return caught[0] if caught else 0

        try:
            yield is_interrupted
        except Interrupted as stopped:
            saved = kept if stopped.is_saved else "the chief saves the run"
            log(f"interrupted by {stopped}: {saved}")
            raise
