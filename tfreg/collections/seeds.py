"""Default seeds: different for each object, the same in every run.

    seeds = Seeds(root=0)
    seeds.take(), seeds.take()  # two numbers, the same in every run

The traps: a constant default, with which all members of an ensemble are the same model;
and a count shared by threads, with which the seeds depend on a race.
"""

import collections
import hashlib
import threading
import weakref

from tfreg.collections import scopes, stacks


class Seeds:
    """A sequence of seeds for each thread.

    A thread is identified by its name. Threads of the same name are numbered in the
    order of their first call.

    Args:
        root: determines all seeds, together with the thread and a count.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._maker = weakref.ref(threading.current_thread())
        self._places: weakref.WeakKeyDictionary[threading.Thread, str] = (
            weakref.WeakKeyDictionary()
        )
        self._names: collections.Counter[str] = collections.Counter()
        self._counts: collections.Counter[str] = collections.Counter()

    def take(self) -> int:
        """Returns the next seed of this thread, from 0 to 2**31 - 1."""
        with self._lock:
            place, replica = self._find_place(), ""
            if stacks.in_replica():
                # Each replica has its own thread, but all need the same seeds.
                place, replica = "replica", str(scopes.get_replica())
            number = self._counts[place + replica]
            self._counts[place + replica] += 1
        text = f"{self._root}/{place}/{number}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1

    def _find_place(self) -> str:
        thread = threading.current_thread()
        if thread is self._maker():
            return ""
        if thread not in self._places:
            name = thread.name
            self._places[thread] = f"{name}#{self._names[name]}"
            self._names[name] += 1
        return self._places[thread]
