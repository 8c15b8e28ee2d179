"""Step scopes: where a loss lives that is added in a step, and when it ends.

    with tfreg.step_scope(step=optimizer.step):  # eager code, or one of several steps
        per_example = tfreg.losses.sparse_softmax_cross_entropy(y, model(x))
        loss = tfreg.losses.total_loss(per_example, model)

In a `tf.function` the trace is the scope and nothing has to be written. The trap: a
tensor made in one trace and read in another. So every loss hangs on the graph, the
replica and the scope it was added in, and is seen only from there.
"""

import contextlib
import dataclasses
import inspect
import itertools
import os
import re
import threading
import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import tensorflow as tf

from tfreg import _tensorflow

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Item = TypeVar("_Item")
_FOLDER = os.path.dirname(__file__)


@dataclasses.dataclass(eq=False)
class StepLoss:
    """One regularization loss of a step.

    Attributes:
        name: what `get_collection` filters by.
        value: scalar floating tensor.
        per_example: it is a mean over the replica's examples.
        owner: the module that added it, weakly; None: a plain function did.
        store: the default store when it was added.
        record: where it was added.
        number: grows from loss to loss and from total to total.
        is_recorded: a tape could record how it was computed.
        vector_loop: name scope of the `tf.vectorized_map` that it was made in, or None.
        is_read: somebody has its value, and answers for it.
        totals: who has counted it -> the number of the first total that did.
    """

    name: str
    value: tf.Tensor
    per_example: bool
    owner: weakref.ref | None
    store: Any
    record: "Record"
    number: int
    is_recorded: bool
    vector_loop: str | None
    is_read: bool = False
    totals: dict[Hashable, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class Record:
    """What was added in one graph (None: eagerly), by one replica, in one scope.

    `owners` are the modules that were called, also those whose regularizers gave None;
    `values` are those of the stores' other collections.
    """

    graph: tf.Graph | None
    replica: int | None
    scope: "Scope | None"
    losses: list[StepLoss] = dataclasses.field(default_factory=list)
    owners: list[weakref.ref] = dataclasses.field(default_factory=list)
    values: dict[tuple[Any, Hashable], list] = dataclasses.field(default_factory=dict)
    read: set[tuple[Any, Hashable]] = dataclasses.field(default_factory=set)

    def has(self, owner: Any) -> bool:
        """Tells whether a module was called."""
        return any(ref() is owner for ref in self.owners)


@dataclasses.dataclass(eq=False)
class Scope:
    """One `step_scope`: the graph it was opened in, the step's number and seed.

    In eager code it holds the records of the replicas, and those of functions that were
    traced meanwhile: a function that is dropped at once would be forgotten.
    """

    graph: tf.Graph | None
    number: Any
    seed: int
    records: dict[int | None, Record] = dataclasses.field(default_factory=dict)
    traced: list[Record] = dataclasses.field(default_factory=list)
    is_open: bool = True
    # How often each owner drew random numbers, by the trace.
    draws: weakref.WeakKeyDictionary[Any, dict] = dataclasses.field(
        default_factory=weakref.WeakKeyDictionary
    )


class _Entry(NamedTuple):
    item: Any
    thread: threading.Thread
    in_replica: bool
    frame: types.FrameType | None  # That of the block.


class ThreadStacks(Generic[_Item]):
    """A stack for each thread; a replica's new thread reads those of its callers.

    A generator or coroutine that is suspended inside its block takes its item along.
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
            # Those after the last block that runs are suspended.
            own = own[: active[-1] + 1] if active else own
        return [entry.item for entry in own]

    def get_callers(self) -> list[list[_Item]]:
        """Returns the stacks of those who may run this replica, none elsewhere."""
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
    """Tells whether a frame is between a block and the stack: ours or contextlib's."""
    file = frame.f_code.co_filename
    return file == contextlib.__file__ or os.path.dirname(file) == _FOLDER


_scopes: ThreadStacks[Scope] = ThreadStacks()


def get_open_scopes() -> list[Scope]:
    """Returns the scopes that are open here, the innermost last."""
    callers = _scopes.get_callers()
    if len(callers) > 1:
        # Several threads train: only a graph tells which of them runs this replica.
        callers = [[s for s in stack if s.graph is not None] for stack in callers]
    return [*itertools.chain.from_iterable(callers), *_scopes.get()]


def do_not_convert(function: _Function) -> _Function:
    """Keeps AutoGraph out of a function of ours: it has nothing to convert there.

    Source: `tf.autograph.experimental.do_not_convert`, with the type kept.
    """
    return tf.autograph.experimental.do_not_convert(function)


def get_graph() -> tf.Graph | None:
    """Returns the graph that is being traced, None in eager code."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def get_replica() -> int | None:
    """Returns this replica's number (0 without a strategy), None across replicas."""
    context = tf.distribute.get_replica_context()
    if context is None:
        return None
    number = tf.get_static_value(context.replica_id_in_sync_group)
    return None if number is None else int(number)


def in_replica() -> bool:
    """Tells whether this is inside `strategy.run`."""
    across = tf.distribute.in_cross_replica_context()
    return tf.distribute.has_strategy() and not across


def check_strategy() -> None:
    """Refuses a strategy in scope whose replicas don't share one update.

    Raises:
        ValueError: it isn't the default, MirroredStrategy, MultiWorkerMirroredStrategy
            or OneDeviceStrategy.
    """
    strategy = tf.distribute.get_strategy()
    allowed = (
        tf.distribute.MirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
        tf.distribute.OneDeviceStrategy,
    )
    if tf.distribute.has_strategy() and not isinstance(strategy, allowed):
        raise ValueError(
            "the strategy must be MirroredStrategy or MultiWorkerMirroredStrategy, got "
            f"{type(strategy).__name__}, under which each replica would update the "
            "variables by itself: use one of those"
        )


def _get_own_replica() -> int | None:
    """Returns the replica that owns what is added now, None outside `strategy.run`."""
    return get_replica() if in_replica() else None


def get_vector_loop() -> str | None:
    """Returns the name scope of the `tf.vectorized_map` that this is in, or None."""
    # Its body is traced once, for the first element, into the graph around it.
    name = tf.get_current_name_scope() if get_graph() is not None else ""
    match = re.match(r"(.*/)?loop_body(_\d+)?(?=/|$)", name)
    return match.group() if match else None


def get_record() -> Record | None:
    """Returns where a loss added now belongs, None in eager code without a scope."""
    graph, replica = get_graph(), _get_own_replica()
    chain = _tensorflow.get_chain(graph)
    scopes = get_open_scopes()
    scope = next((s for s in reversed(scopes) if s.graph in chain), None)
    if graph is None:
        if scope is None:
            return None
        return scope.records.setdefault(replica, Record(None, replica, scope))
    # On the graph itself: a table beside it would keep every graph alive.
    if not hasattr(graph, "_tfreg_records"):
        graph._tfreg_records = {}
    records = graph._tfreg_records
    if (replica, scope) not in records:
        record = records[replica, scope] = Record(graph, replica, scope)
        for outer in chain[1:]:
            inner = getattr(outer, "_tfreg_inner", [])
            outer._tfreg_inner = [*inner, weakref.ref(record)]  # type: ignore
        for eager in (s for s in scopes if s.graph is None):
            eager.traced.append(record)
    return records[replica, scope]


def get_visible_records() -> list[Record]:
    """Returns the records whose tensors can be read here, the outermost first."""
    replica, scopes = _get_own_replica(), get_open_scopes()
    chain = _tensorflow.get_chain(get_graph())
    if chain == [None]:
        eager = [scope for scope in scopes if scope.graph is None]
        return [s.records[replica] for s in eager if replica in s.records]
    return [
        record
        for graph in reversed(chain)
        for record in tuple(getattr(graph, "_tfreg_records", {}).values())
        if record.replica == replica
        and (record.scope is None or record.scope in scopes)
    ]


def get_hidden_records() -> list[Record]:
    """Returns the records of this step whose tensors can't be read here.

    They are those of functions, branches and loops that this step has called, and of
    other replicas where this is across replicas. What another thread does isn't in it.
    """
    graph, replica, scopes = get_graph(), _get_own_replica(), get_open_scopes()
    if graph is None:
        eager = [scope for scope in scopes if scope.graph is None]
        records = [r for s in eager for r in (*s.traced, *s.records.values())]
    else:
        graphs = _tensorflow.find_called(_tensorflow.get_chain(graph))  # type: ignore
        inner = [ref() for g in graphs for ref in getattr(g, "_tfreg_inner", [])]
        own = [r for g in graphs for r in getattr(g, "_tfreg_records", {}).values()]
        records = [*own, *(record for record in inner if record is not None)]
    visible = get_visible_records()
    return [
        record
        for record in dict.fromkeys(records)
        if record not in visible
        and (replica is None or record.replica in (None, replica))
        and not (record.scope and record.scope.is_open and record.scope not in scopes)
    ]


def is_in_function(graph: tf.Graph | None) -> bool:
    """Tells whether a tf.function inside a graph is traced; no branch or loop is one.

    At its next call in that graph it runs no Python: what it has read there it keeps.
    """
    chain = _tensorflow.get_chain(get_graph())
    inner = itertools.takewhile(lambda g: g is not graph, chain)
    return any(g is not None and _tensorflow.is_function(g) for g in inner)


def _find_numbered() -> Scope | None:
    """Returns the innermost scope whose number is known here, None without."""
    chain = _tensorflow.get_chain(get_graph())
    for scope in reversed(get_open_scopes()):
        is_own = scope.graph in chain and not is_in_function(scope.graph)
        is_variable = isinstance(scope.number, tf.Variable)
        if is_variable or (scope.number is not None and is_own):
            return scope
    return None


def get_step_number() -> tuple[Any, int] | None:
    """Returns the number and the seed that `step_scope` was given, None without.

    A number that is a tf.Variable is also seen in functions traced inside the scope; a
    tensor or an int only in its own trace, its branches and loops.
    """
    scope = _find_numbered()
    return None if scope is None else (scope.number, scope.seed)


def find_trace(graph: tf.Graph | None) -> tf.Graph | None:
    """Returns the tf.function's graph that a branch or a loop is part of."""
    chain = _tensorflow.get_chain(graph)
    functions = (g for g in chain if g is not None and _tensorflow.is_function(g))
    return next(functions, chain[-1])


def count_draw(owner: Any, name: str) -> int:
    """Returns how often an owner drew random numbers by a name, in this step so far.

    Each trace counts by itself: at its next call a tf.function keeps its numbers.
    """
    scope = _find_numbered()
    if scope is None:
        return 0
    draws = scope.draws.setdefault(find_trace(get_graph()) or scope, {})
    owners = draws.setdefault(_get_own_replica(), weakref.WeakKeyDictionary())
    counts = owners.setdefault(owner, {})
    counts[name] = counts.get(name, -1) + 1
    return counts[name]


@contextlib.contextmanager
def step_scope(step: Any = None, seed: int = 0) -> Iterator[None]:
    """Makes what is added in the block belong to one step, which ends with the block.

    Needed in eager code, where several steps share a trace, and for what depends on the
    step's number: scales that are functions of the step, and dropout. What is added in
    a scope of its own, as by a forward pass for pseudo-labels, no other step counts.

    Args:
        step: number of the step; int, tf.Variable or integer scalar tensor. A
            tf.function called in the block sees a tf.Variable alone, that of its trace.
        seed: with the step's number, what all randomness of the step comes from.

    Source: the role that `tf.Graph().as_default()` had for TF1's collections.
    """
    scope = Scope(get_graph(), step, seed)
    try:
        with _scopes.push(scope):
            yield
    finally:
        scope.is_open = False
