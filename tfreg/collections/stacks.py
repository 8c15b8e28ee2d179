"""Stacks of the open with blocks: one for each thread, also seen by its replicas.

    names = stacks.ThreadStacks()
    with names.push("outer"), names.push("inner"):
        names.get()  # ["outer", "inner"]

The trap: a plain thread-local stack, which is empty in the threads of `strategy.run`,
and which a generator suspended inside its block leaves wrong.
"""

import contextlib
import inspect
import os
import threading
import types
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import tensorflow as tf

_Item = TypeVar("_Item")
_FOLDER = os.path.dirname(__file__)


def in_replica() -> bool:
    """Returns whether the current code runs inside `strategy.run`."""
    across = tf.distribute.in_cross_replica_context()
    return tf.distribute.has_strategy() and not across


class _Entry(NamedTuple):
    item: Any
    thread: threading.Thread
    in_replica: bool
    frame: types.FrameType | None  # The frame of the with block.


class ThreadStacks(Generic[_Item]):
    """A stack for each thread; a replica's new thread reads those of its callers.

    The items of a generator or coroutine suspended inside its block don't count.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    @contextlib.contextmanager
    def push(self, item: _Item) -> Iterator[None]:
        """Puts an item on this thread's stack, inside the block."""
        frame = next((f for f in _list_frames() if not _is_ours(f)), None)
        entry = _Entry(item, threading.current_thread(), in_replica(), frame)
        self._entries.append(entry)
        try:
            yield
        finally:
            self._entries.remove(entry)

    def get(self) -> list[_Item]:
        """Returns this thread's stack."""
        me = threading.current_thread()
        own = [entry for entry in tuple(self._entries) if entry.thread is me]
        if len(own) > 1:
            running = {id(frame) for frame in _list_frames()}
            active = [i for i, e in enumerate(own) if id(e.frame) in running]
            # The blocks after the last running one are suspended.
            own = own[: active[-1] + 1] if active else own
        return [entry.item for entry in own]

    def get_callers(self) -> list[list[_Item]]:
        """Returns the stacks of the threads that may run this replica, else []."""
        me, entries = threading.current_thread(), tuple(self._entries)
        stacks: dict[threading.Thread, list[_Item]] = {}
        own = any(entry.thread is me and not entry.in_replica for entry in entries)
        if own or not in_replica():
            return []
        for entry in entries:
            if entry.thread is not me and not entry.in_replica:
                stacks.setdefault(entry.thread, []).append(entry.item)
        return [stack for thread, stack in stacks.items() if thread.is_alive()]


def _list_frames() -> Iterator[types.FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_ours(frame: types.FrameType) -> bool:
    """Returns whether a frame is of this package or contextlib, not of a with block."""
    file = frame.f_code.co_filename
    return file == contextlib.__file__ or os.path.dirname(file) == _FOLDER
