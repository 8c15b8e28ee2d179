"""A store's books: which losses were added in steps, and which no total can count.

    ledger.add(loss)  # when a step computes it
    ledger.check(scope, present)  # before a total: raises where one is out of reach
    ledger.read(loss)  # whoever got its value answers for it from here on

The trap: a penalty that was computed but is in no total, because it lives in another
function, another replica, or a step that is over. Training goes on without it.
"""

import gc
import re
import threading
import weakref
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg.collections import scopes

WRITE_A_STEP = (
    "put the forward pass and total_loss inside one tf.function, "
    "or in eager code inside one `with tfreg.step_scope():`"
)


class Missed(NamedTuple):
    """A penalty of an eager forward pass that no total has counted.

    `recorded` tells whether a tape may have a gradient through that pass.
    """

    name: str
    recorded: bool


def matches(scope: str | None, name: str | None) -> bool:
    """Tells whether a name matches a scope at its beginning; None: everything does."""
    return scope is None or (name is not None and re.match(scope, name) is not None)


def get_name(item: Any) -> str | None:
    """Returns what an item of a collection is filtered by; None: it has no name."""
    # Eager tensors have none, so those that tf1 collects were given one.
    return getattr(item, "_tfreg_name", None) or getattr(item, "name", None)


class Ledger:
    """The losses of one store that nobody has read yet, weakly."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._unread: weakref.WeakSet[scopes.StepLoss] = weakref.WeakSet()
        self._missed: dict[Hashable, Missed] = {}

    def add(self, loss: scopes.StepLoss) -> None:
        """Notes a loss that a total has to count."""
        with self._lock:
            self._unread.add(loss)

    def read(self, loss: scopes.StepLoss) -> None:
        """Notes that somebody has a loss's value and answers for it."""
        loss.read = True
        with self._lock:
            self._unread.discard(loss)

    def end(self, loss: scopes.StepLoss, failed: bool) -> None:
        """Notes that a loss's scope ended; one that raised had no total to be in."""
        if not (loss.read or failed):
            self.miss(loss.key, loss.name, loss.recorded)
        if loss.step.graph is None:
            with self._lock:
                self._unread.discard(loss)

    def miss(self, key: Hashable, name: str, recorded: bool) -> None:
        """Notes a penalty of an eager forward pass that is in no step."""
        if isinstance(key, weakref.ref):
            source = key()
            if source is None:
                return
            key = weakref.ref(source, self._forget)
        with self._lock:
            before = self._missed.get(key, Missed(name, False))
            self._missed[key] = Missed(name, recorded or before.recorded)

    def _forget(self, key: Hashable) -> None:
        self._missed.pop(key, None)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._unread.clear()
            self._missed.clear()

    def check(self, scope: str | None, present: set[Hashable]) -> None:
        """Raises where a penalty was computed that a total here can't count.

        Args:
            scope: regular expression that its name must match at its beginning.
            present: keys of what this step has computed where it can be read.

        Raises:
            ValueError: there is one; the message says what to write.
        """
        if self._find_lost(scope, present) is None:
            return
        gc.collect()  # A dropped model or trace may wait in a reference cycle.
        lost = self._find_lost(scope, present)
        if lost is not None:
            raise ValueError(_describe(*lost))

    def _find_lost(
        self, scope: str | None, present: set[Hashable]
    ) -> tuple[str, str] | None:
        """Returns the name of a penalty out of reach, and where it is, or None."""
        with self._lock:
            missed, unread = dict(self._missed), list(self._unread)
        unread = [loss for loss in unread if matches(scope, loss.name)]
        hidden = _find_hidden(unread, present)
        if hidden is not None:
            return hidden.name, "in another function, replica, branch, loop or scope"
        # A gradient goes through no forward pass that had no tape; an evaluation may.
        evaluates = scopes.get_step() is None and not scopes.is_recording()
        for key, (name, recorded) in missed.items():
            if key in present:
                self._forget(key)
            elif matches(scope, name) and (recorded or evaluates):
                return name, "in eager code outside any step"
        return None


def _describe(name: str, place: str) -> str:
    eagerly = ""
    if tf.config.functions_run_eagerly():
        eagerly = " (by tf.config.run_functions_eagerly a tf.function is none)"
    return (
        f"{name} must be computed in the step that counts it, got it computed {place}"
        f"{eagerly}: {WRITE_A_STEP}, or return it from there (as tfreg.get_collection "
        "gives it) and tfreg.add_loss it here; leave out a model that isn't trained "
        "here by total_loss(scope=...) or a Store of its own"
    )


def _find_hidden(
    losses: Iterable[scopes.StepLoss], present: set[Hashable]
) -> scopes.StepLoss | None:
    """Returns the first of the losses that belongs to this step but isn't visible."""
    graph, steps = scopes.get_graph(), scopes.get_visible_steps()
    inside: set[tf.Graph] | None = None
    for loss in sorted(losses, key=lambda loss: loss.number):
        if loss.step in steps or _is_elsewhere(loss):
            continue
        scope, again = loss.step.scope, loss.key in present
        if graph is None or loss.step.graph is None:
            # Nobody knows which functions eager code calls: those of layers that are
            # called here too are for something else.
            matters = loss.recorded or not scopes.is_recording()
            if not again and (graph is None or matters):
                return loss
            continue
        if again and scope is not None and not scope.is_open:
            continue  # It was given a scope of its own, beside the one that counts.
        if inside is None:
            inside = find_called(scopes.get_chain(graph))
        if any(outer in inside for outer in scopes.get_chain(loss.step.graph)):
            return loss
    return None


def _is_elsewhere(loss: scopes.StepLoss) -> bool:
    """Tells whether a loss is another thread's or replica's, or of a dead layer."""
    replica, scope = scopes.get_owner(), loss.step.scope
    if isinstance(loss.key, weakref.ref) and loss.key() is None:
        return True
    if replica is not None and loss.step.replica not in (None, replica):
        return True
    open_elsewhere = scope is not None and scope.is_open
    return open_elsewhere and scope not in scopes.get_open_scopes()


def find_called(chain: Sequence[tf.Graph]) -> set[tf.Graph]:
    """Returns the graphs of a chain and of all functions that they call."""
    # A function that was traced earlier runs no Python when it is called again.
    functions = [f for graph in chain for f in graph._functions.values()]
    return {*chain, *(function.graph for function in functions)}


def check_losses(losses: Sequence[scopes.StepLoss]) -> None:
    """Raises where a total of these losses would be wrong.

    Raises:
        ValueError: some were in a total before others were added; the value is that of
            one element alone, or that of the first call; or there is no gradient.
    """
    first = min((s.summed for s in losses if s.summed is not None), default=None)
    loop = scopes.get_vector_loop() or ""
    for loss in losses:
        if first is not None and loss.summed is None and loss.number > first:
            name = next(s.name for s in losses if s.summed == first)
            raise ValueError(
                f"{name} must count once, got a second total_loss after another "
                "forward pass in the same trace: put each step into a "
                "`with tfreg.step_scope():` of its own"
            )
        is_in = loss.vector_loop is None or f"{loop}/".startswith(
            f"{loss.vector_loop}/"
        )
        if loss.step.graph is scopes.get_graph() and not is_in:
            raise ValueError(_describe(loss.name, "in a tf.vectorized_map"))
        if loss.step.graph is not None and scopes.is_in_function(loss.step.graph):
            raise ValueError(
                _describe(loss.name, "outside the tf.function of total_loss")
            )
        if loss.stopped and scopes.is_recording():
            raise ValueError(
                f"{loss.name} must have a gradient, got it computed where no tape "
                "records, as in tf.recompute_grad: return the layer's outputs from "
                "there and penalize them here by tfreg.add_loss"
            )
