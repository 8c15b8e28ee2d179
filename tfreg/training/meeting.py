"""Lets workers meet at their ports, before TensorFlow connects them.

    meeting.meet("worker 0", {"worker 0": "localhost:0"}, wait=1.0, tell=print)

The trap: TensorFlow waits for a worker without a word, and so that no signal ends it;
and it takes whatever listens at a port for the worker.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

SECONDS = 5.0  # Until it is told who is waited for, and then twice as long each time.


class WorkerError(RuntimeError):
    """Another worker is lost or hasn't come; scripts end with exit status 75.

    Args:
        text: the message.
        lost: places of the lost ones among the workers, the chief's is 0.
    """

    def __init__(self, text: str, lost: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.lost = lost


def meet(
    own: str, workers: Mapping[str, str], wait: float, tell: Callable[[str], None]
) -> None:
    """Returns once this worker has greeted each other one, or been greeted by it.

    Args:
        own: name of this worker.
        workers: name -> host:port of all.
        wait: seconds to wait for them.
        tell: called with the names and places of those that are waited for.

    Raises:
        WorkerError: another process has this worker's port, or a worker hasn't come.
    """
    place, met = workers[own], {own}
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(place.rpartition(":")[2])))
        except OSError as error:
            raise WorkerError(
                f"a worker's port must be free, got {place} of {own} "
                f"({error.strerror}): end the process that has it, or name another "
                "port in TF_CONFIG"
            ) from None
        listener.listen(128)
        thread = threading.Thread(target=_answer, args=(listener, own, met))
        thread.start()
        try:
            _visit(own, workers, met, wait, tell)
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # Ends `accept`.
            thread.join()


def _answer(listener: socket.socket, own: str, met: set[str]) -> None:
    """Greets whoever comes, until the listener is shut down."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(2.0)
                name = _receive(connection)
                connection.sendall(_greet(own))
                met.add(name)  # Afterwards: this process may go on now.


def _visit(
    own: str,
    workers: Mapping[str, str],
    met: set[str],
    wait: float,
    tell: Callable[[str], None],
) -> None:
    """Visits the workers that aren't met until all are."""
    began, told = time.monotonic(), SECONDS
    while True:
        missing = {}
        for name, place in workers.items():
            # One that has come here is on its way into TensorFlow, and answers no more.
            reason = None if name in met else _ask(own, name, place)
            if reason is None:
                met.add(name)
            else:
                missing[name] = f"{name} at {place}{reason}"
        named = ", ".join(text for name, text in missing.items() if name not in met)
        seconds = time.monotonic() - began
        if not named:
            return
        if seconds >= wait:
            raise WorkerError(
                f"all workers must come within {wait:g} s, got none of {named}: start "
                "them, or wait longer by --wait_for_workers"
            )
        if seconds >= told:
            tell(named)
            told *= 2
        time.sleep(0.2)


def _ask(own: str, name: str, place: str) -> str | None:
    """Greets a worker; returns None if it answers, else what is known of its place."""
    try:
        connection = _connect(place)
    except (OSError, ValueError):
        return ""
    answer = ""
    with connection, contextlib.suppress(OSError):
        connection.sendall(_greet(own))
        answer = _receive(connection)
    return None if answer == name else " (where something else listens)"


def is_listening(place: str) -> bool:
    """Returns whether anything listens at a host:port."""
    try:
        with _connect(place):
            return True
    except (OSError, ValueError):
        return False


def _connect(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=2.0)


def _greet(name: str) -> bytes:
    return f"tfreg {name}\n".encode()


def _receive(connection: socket.socket) -> str:
    """Returns the name in a greeting; of another program's it is no worker's."""
    return connection.recv(100).decode(errors="replace").removeprefix("tfreg ").strip()
