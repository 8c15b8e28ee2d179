"""Step scopes: where a loss lives that is added in a step, and when it ends.

    with tfreg.step_scope(step=optimizer.step):  # eager code, or one of several steps
        loss = tfreg.losses.total_loss(cross_entropy(y, model(x)))

In a `tf.function` the trace is the scope and nothing has to be written. The trap: a
tensor made in one trace and read in another. So every loss knows the graph, the replica
and the scope it was added in, and is seen only from there.
"""

import contextlib
import dataclasses
import itertools
import re
import threading
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import tensorflow as tf
from tensorflow.python.eager import record  # The only place that knows all tapes.

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Item = TypeVar("_Item")


@dataclasses.dataclass(eq=False)
class StepLoss:
    """One regularization loss of a step.

    Attributes:
        store: the `tfreg.collections.store.Store` that it was added to.
        name: what `get_collection` filters by.
        key: what adds it again at each step: a layer, weakly, or just its name.
        end: called with it, and whether an exception did it, when its scope ends.
        value: scalar floating tensor.
        number: grows from loss to loss.
        per_example: it is a mean over the replica's examples.
        recorded: a tape could record how it was computed.
        stopped: it has no gradient, whatever tape there is.
        vector_loop: name scope of the `tf.vectorized_map` that it was made in, or None.
        read: it was returned to somebody.
        summed: when a total_loss counted it first, compared with `number`; or None.
    """

    store: Any
    name: str
    key: Hashable
    end: Callable[["StepLoss", bool], None]
    value: tf.Tensor
    number: int
    step: "Step"
    per_example: bool
    recorded: bool
    stopped: bool
    vector_loop: str | None
    read: bool = False
    summed: int | None = None


@dataclasses.dataclass(eq=False)
class Step:
    """What was added in one graph (None: eagerly), by one replica, in one scope.

    `keys` are stores with the keys of losses, of layers whose regularizers gave None,
    and None for a store whose penalties were read.
    """

    graph: tf.Graph | None
    replica: int | None
    scope: "Scope | None"
    losses: list[StepLoss] = dataclasses.field(default_factory=list)
    keys: set[tuple[Any, Hashable]] = dataclasses.field(default_factory=set)
    values: dict[tuple[Any, Hashable], list] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class Scope:
    """One `step_scope`: the graph it was opened in, the step's number and seed.

    In eager code it holds the steps of the replicas, and what was added in functions
    that were traced meanwhile: those that are dropped at once would be forgotten.
    """

    graph: tf.Graph | None
    number: Any
    seed: int
    steps: dict[int | None, Step] = dataclasses.field(default_factory=dict)
    traced: list[StepLoss] = dataclasses.field(default_factory=list)
    is_open: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class _Entry(Generic[_Item]):
    item: _Item
    thread: threading.Thread
    in_replica: bool


class ThreadStacks(Generic[_Item]):
    """A stack for each thread, readable from the others.

    The thread of a replica is a new one that knows nothing of who runs it.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry[_Item]] = []

    @contextlib.contextmanager
    def push(self, item: _Item) -> Iterator[None]:
        """Puts an item on this thread's stack, inside the block."""
        entry = _Entry(item, threading.current_thread(), in_replica())
        self._entries.append(entry)
        try:
            yield
        finally:
            self._entries.remove(entry)

    def get_own(self) -> list[_Item]:
        """Returns this thread's stack."""
        me = threading.current_thread()
        return [entry.item for entry in tuple(self._entries) if entry.thread is me]

    def get_others(self) -> list[list[_Item]]:
        """Returns the other threads' stacks, without what replicas have put there."""
        stacks: dict[threading.Thread, list[_Item]] = {}
        me = threading.current_thread()
        for entry in tuple(self._entries):
            if entry.thread is not me and not entry.in_replica:
                stacks.setdefault(entry.thread, []).append(entry.item)
        return [stack for thread, stack in stacks.items() if thread.is_alive()]

    def is_replicas(self) -> bool:
        """Tells whether this is a replica's thread, that has its callers elsewhere."""
        me = threading.current_thread()
        own = [entry for entry in tuple(self._entries) if entry.thread is me]
        return in_replica() and all(entry.in_replica for entry in own)


_scopes: ThreadStacks[Scope] = ThreadStacks()


def get_open_scopes() -> list[Scope]:
    """Returns the scopes that are open here, the innermost last."""
    own = _scopes.get_own()
    if not _scopes.is_replicas():
        return own
    callers = _scopes.get_others()
    if len(callers) > 1:
        # Several threads train: only a graph tells which of them runs this replica.
        callers = [[s for s in stack if s.graph is not None] for stack in callers]
    return [*(scope for stack in callers for scope in stack), *own]


def do_not_convert(function: _Function) -> _Function:
    """Keeps AutoGraph out of a function of ours: it has nothing to convert there.

    Source: `tf.autograph.experimental.do_not_convert`, with the type kept.
    """
    return tf.autograph.experimental.do_not_convert(function)


def get_graph() -> tf.Graph | None:
    """Returns the graph that is being traced, None in eager code."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def get_chain(graph: tf.Graph | None) -> list[tf.Graph | None]:
    """Returns a graph and the traces that it is nested in, innermost first."""
    chain = [graph]
    while getattr(graph, "building_function", False):
        graph = graph.outer_graph  # type: ignore[union-attr]
        if not getattr(graph, "building_function", False):
            break
        chain.append(graph)
    return chain


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


def get_owner() -> int | None:
    """Returns the replica that owns what is added now, None outside `strategy.run`."""
    return get_replica() if in_replica() else None


def get_captured() -> set[int] | None:
    """Returns the ids of the handles that the traces capture, None without a trace."""
    chain = get_chain(get_graph())
    if not all(hasattr(graph, "captures") for graph in chain):
        return None
    captures = itertools.chain.from_iterable(getattr(g, "captures", ()) for g in chain)
    return {id(handle) for handle, _ in captures}


def are_captured(variables: Sequence[Any], handles: Container[int]) -> bool:
    """Tells whether one of the handles belongs to one of the variables."""
    for variable in variables:
        parts = [variable] if isinstance(variable, tf.Variable) else [variable.value]
        parts = getattr(variable, "values", parts)  # A strategy's; above it's Keras's.
        if any(id(getattr(part, "handle", None)) in handles for part in parts):
            return True
    return False


def is_recording() -> bool:
    """Tells whether a tape could record what is computed now."""
    return record.could_possibly_record()


def is_stopped() -> bool:
    """Tells whether no tape can, as in the forward pass of `tf.recompute_grad`."""
    return record.pywrap_tfe.TFE_Py_TapeSetIsStopped()


def get_vector_loop() -> str | None:
    """Returns the name scope of the `tf.vectorized_map` that this is in, or None."""
    # Its body is traced once, for the first element, into the graph around it.
    name = tf.get_current_name_scope() if get_graph() is not None else ""
    found = re.match(r"(.*/)?loop_body(_\d+)?(?=/|$)", name)
    return found.group() if found else None


def get_step() -> Step | None:
    """Returns where a loss added now belongs, None in eager code without a scope."""
    graph, owner = get_graph(), get_owner()
    chain = get_chain(graph)
    scope = next((s for s in reversed(get_open_scopes()) if s.graph in chain), None)
    if graph is None:
        if scope is None:
            return None
        return scope.steps.setdefault(owner, Step(None, owner, scope))
    # On the graph itself: a table beside it would keep every graph alive.
    if not hasattr(graph, "_tfreg_steps"):
        graph._tfreg_steps = {}
    key = owner, scope
    return graph._tfreg_steps.setdefault(key, Step(graph, *key))


def get_visible_steps() -> list[Step]:
    """Returns the steps whose tensors can be read here, the outermost first."""
    owner, scopes, chain = get_owner(), get_open_scopes(), get_chain(get_graph())
    if chain == [None]:
        eager = [scope for scope in scopes if scope.graph is None]
        return [scope.steps[owner] for scope in eager if owner in scope.steps]
    return [
        step
        for graph in reversed(chain)
        for step in tuple(getattr(graph, "_tfreg_steps", {}).values())
        if step.replica == owner and (step.scope is None or step.scope in scopes)
    ]


def add_to_step(step: Step, loss: StepLoss) -> None:
    """Makes a loss part of a step."""
    step.losses.append(loss)
    step.keys.add((loss.store, loss.key))
    for scope in get_open_scopes():
        if step.graph is not None and scope.graph is None:
            scope.traced.append(loss)


def is_in_function(graph: tf.Graph | None) -> bool:
    """Tells whether a tf.function inside a graph is traced; no branch or loop is one.

    At its next call in that graph it runs no Python: what it has read there it keeps.
    """
    inner = itertools.takewhile(lambda g: g is not graph, get_chain(get_graph()))
    return any(type(g) is tf.__internal__.FuncGraph for g in inner)


def get_step_number() -> tuple[Any, int] | None:
    """Returns the number and the seed that `step_scope` was given, None without.

    A number that is a tf.Variable is also seen in functions traced inside the scope; a
    tensor or an int only in its own trace, its branches and loops.
    """
    chain = get_chain(get_graph())
    for scope in reversed(get_open_scopes()):
        here = scope.graph in chain and not is_in_function(scope.graph)
        if isinstance(scope.number, tf.Variable) or (scope.number is not None and here):
            return scope.number, scope.seed
    return None


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
    failed = True
    try:
        with _scopes.push(scope):
            yield
        failed = False
    finally:
        scope.is_open = False
        losses = [loss for step in scope.steps.values() for loss in step.losses]
        for loss in [*losses, *scope.traced]:
            loss.end(loss, failed)
