"""Step scopes: the lifetime of the losses that are added in a step.

    with tfreg.step_scope(step=optimizer.step):  # eager code, or one of several steps
        per_example = tfreg.losses.sparse_softmax_cross_entropy(y, model(x))
        loss = tfreg.losses.total_loss(per_example, model)

In a `tf.function` the trace is the scope, and no `step_scope` is needed. The trap: a
tensor of one trace that is read in another. So every loss belongs to the graph, the
replica and the scope that it was added in, and can be read only there.
"""

import contextlib
import dataclasses
import itertools
import re
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import stacks

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclasses.dataclass(eq=False)
class StepLoss:
    """One regularization loss of a step.

    Attributes:
        name: the name that `get_collection` matches.
        value: scalar floating tensor.
        per_example: whether it is a mean over the replica's examples.
        owner: weak reference to the module that added it; None for a plain function.
        store: the default store when it was added.
        record: the record it was added to.
        number: position in the sequence of all losses and totals.
        is_recorded: whether a tape could record its computation.
        vector_loop: name scope of the `tf.vectorized_map` around it, or None.
        is_read: whether its value has been returned to a caller.
        totals: key of a total -> number of the first total of that key that counted it.
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
    """The losses and values added in one graph, by one replica, in one scope.

    Attributes:
        graph: the graph; None in eager code.
        replica: number of the replica; None outside `strategy.run`.
        scope: the innermost step scope; None without one.
        losses: the losses, in order.
        owners: weak references to the modules that were called, including those whose
            regularizers returned None.
        values: (store, key) -> values of the stores' other collections.
        read: the (store, key) pairs of the collections that were read.
    """

    graph: tf.Graph | None
    replica: int | None
    scope: "Scope | None"
    losses: list[StepLoss] = dataclasses.field(default_factory=list)
    owners: list[weakref.ref] = dataclasses.field(default_factory=list)
    values: dict[tuple[Any, Hashable], list] = dataclasses.field(default_factory=dict)
    read: set[tuple[Any, Hashable]] = dataclasses.field(default_factory=set)

    def has(self, owner: Any) -> bool:
        """Returns whether a module was called."""
        return any(ref() is owner for ref in self.owners)


@dataclasses.dataclass(eq=False)
class Scope:
    """One `step_scope`: the graph it was opened in, and its arguments.

    In eager code it keeps the records of the replicas, and of the functions traced
    inside it, which may be deleted before the scope ends.
    """

    graph: tf.Graph | None
    number: Any
    seed: int
    examples: tuple[Any, Any] | None = None
    records: dict[int | None, Record] = dataclasses.field(default_factory=dict)
    traced: list[Record] = dataclasses.field(default_factory=list)
    is_open: bool = True
    # How often each owner drew random numbers, for each trace.
    draws: weakref.WeakKeyDictionary[Any, dict] = dataclasses.field(
        default_factory=weakref.WeakKeyDictionary
    )


_scopes: stacks.ThreadStacks[Scope] = stacks.ThreadStacks()


def get_open_scopes() -> list[Scope]:
    """Returns the open scopes, the innermost last."""
    callers = _scopes.get_callers()
    if len(callers) > 1:
        # With several training threads only the graph identifies the replica's caller.
        callers = [[s for s in stack if s.graph is not None] for stack in callers]
    return [*itertools.chain.from_iterable(callers), *_scopes.get()]


def do_not_convert(function: _Function) -> _Function:
    """Excludes a function from AutoGraph, which has nothing to convert in it.

    Source: `tf.autograph.experimental.do_not_convert`, with the function's type.
    """
    return tf.autograph.experimental.do_not_convert(function)


def convert(function: Callable) -> Callable:
    """Includes a user's function in AutoGraph, where its caller is excluded."""
    return _tensorflow.convert(function)


def get_graph() -> tf.Graph | None:
    """Returns the graph being traced, None in eager code."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def get_replica() -> int | None:
    """Returns this replica's number, 0 without a strategy, None across replicas."""
    context = tf.distribute.get_replica_context()
    if context is None:
        return None
    number = tf.get_static_value(context.replica_id_in_sync_group)
    return None if number is None else int(number)


def count_replicas() -> int:
    """Returns the number of replicas in `strategy.run`, 1 elsewhere."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def check_strategy() -> None:
    """Checks that the replicas of the current strategy apply one common update.

    Raises:
        ValueError: the strategy isn't the default, MirroredStrategy,
            MultiWorkerMirroredStrategy or OneDeviceStrategy.
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
    """Returns the number of this replica, None outside `strategy.run`."""
    return get_replica() if stacks.in_replica() else None


def get_vector_loop() -> str | None:
    """Returns the name scope of the innermost `tf.vectorized_map`, or None."""
    # Its body is traced once, for the first element, into the outer graph.
    name = tf.get_current_name_scope() if get_graph() is not None else ""
    match = re.match(r"(.*/)?loop_body(_\d+)?(?=/|$)", name)
    return match.group() if match else None


def get_record() -> Record | None:
    """Returns the record for new losses, None in eager code without a scope."""
    graph, replica = get_graph(), _get_own_replica()
    chain = _tensorflow.get_chain(graph)
    scopes = get_open_scopes()
    scope = next((s for s in reversed(scopes) if s.graph in chain), None)
    if graph is None:
        if scope is None:
            return None
        return scope.records.setdefault(replica, Record(None, replica, scope))
    # Stored on the graph: a separate table would keep every graph alive.
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
    """Returns the records whose tensors the current code can read, outermost first."""
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
    """Returns the records of this step whose tensors the current code can't read.

    They are of functions, branches and loops that this step has called and, across
    replicas, of the replicas. Records of other threads are excluded.
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
    """Returns whether a tf.function inside a graph is being traced.

    Branches and loops don't count. A second call of the function in that graph runs no
    Python, so that it would reuse the values of the first.
    """
    chain = _tensorflow.get_chain(get_graph())
    inner = itertools.takewhile(lambda g: g is not graph, chain)
    return any(g is not None and _tensorflow.is_function(g) for g in inner)


def _find_scope(attribute: str) -> Scope | None:
    """Returns the innermost scope with an attribute that can be read, or None."""
    chain = _tensorflow.get_chain(get_graph())
    for scope in reversed(get_open_scopes()):
        values = tf.nest.flatten(getattr(scope, attribute))
        is_own = scope.graph in chain and not is_in_function(scope.graph)
        is_known = all(value is not None for value in values)
        if is_known and (is_own or all(isinstance(v, tf.Variable) for v in values)):
            return scope
    return None


def get_step_number() -> tuple[Any, int] | None:
    """Returns the number and the seed of the current step, None if there is none.

    A tf.Variable can also be read in functions traced inside the scope; a tensor or an
    int only in the trace it was given in, including its branches and loops.
    """
    scope = _find_scope("number")
    return None if scope is None else (scope.number, scope.seed)


def get_examples() -> tuple[Any, Any] | None:
    """Returns the first example and the number of examples, None if unknown.

    They can be read where the step's number can.
    """
    scope = _find_scope("examples")
    return None if scope is None else scope.examples


def find_trace(graph: tf.Graph | None) -> tf.Graph | None:
    """Returns the graph of the tf.function around a branch or loop."""
    chain = _tensorflow.get_chain(graph)
    functions = (g for g in chain if g is not None and _tensorflow.is_function(g))
    return next(functions, chain[-1])


def count_draw(owner: Any, name: str) -> int:
    """Returns how often an owner drew random numbers under a name in this step.

    Each trace has its own count, because a second call of a tf.function repeats the
    numbers of its trace.
    """
    scope = _find_scope("number")
    if scope is None:
        return 0
    draws = scope.draws.setdefault(find_trace(get_graph()) or scope, {})
    owners = draws.setdefault(_get_own_replica(), weakref.WeakKeyDictionary())
    counts = owners.setdefault(owner, {})
    counts[name] = counts.get(name, -1) + 1
    return counts[name]


@contextlib.contextmanager
def step_scope(
    step: Any = None, seed: int = 0, examples: tuple[Any, Any] | None = None
) -> Iterator[None]:
    """Begins a step, which ends with the block.

    Needed in eager code, for several steps in one trace, and wherever the step's number
    is used: by scales that are functions of the step, and by dropout. Losses added in a
    separate scope, such as a forward pass for pseudo-labels, count in no other step.

    Args:
        step: number of the step; int, tf.Variable or integer scalar tensor. A
            tf.function called in the block can read only a tf.Variable, the one of its
            trace.
        seed: determines all randomness of the step, together with the step's number.
        examples: index in the global batch of this replica's first example, and this
            replica's number of examples; ints or integer scalar tensors. With them
            dropout's masks don't depend on the number of replicas. None: those of the
            scope around it, otherwise unknown.

    Source: the role that `tf.Graph().as_default()` had for TF1's collections.
    """
    scope = Scope(get_graph(), step, seed, examples)
    try:
        with _scopes.push(scope):
            yield
    finally:
        scope.is_open = False
