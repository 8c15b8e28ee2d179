"""TF1's variable scopes: names, defaults and reuse, restarted in each forward pass.

    with tf1.variable_scope("fc", regularizer=tf1.l2_regularizer(1e-4)) as scope:
        w = tf1.get_variable("w", [784, 10])  # fc/w
    with tf1.variable_scope(scope, reuse=True):
        same = tf1.get_variable("w")

The trap: TF1 numbers default names for as long as a graph exists. A forward function
that runs again, eagerly or in another trace, would get new names. So each call is a
*pass*, in which the numbers restart.
"""

import collections
import contextlib
import dataclasses
import functools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import scopes, terms

AUTO_REUSE = tf.compat.v1.AUTO_REUSE
Initializer = Any  # A callable of shape and dtype or of nothing, its class, or a value.


@dataclasses.dataclass(eq=False)
class VariableScope:
    """The prefix and the defaults of `get_variable`.

    Source: `tf.compat.v1.VariableScope`.
    """

    name: str = ""
    reuse: Any = False
    initializer: Initializer = None
    regularizer: terms.Regularizer | None = None
    dtype: tf.DType = tf.float32
    custom_getter: Callable[..., Any] | None = None
    constraint: Callable[[Any], Any] | None = None
    original_name_scope: str = ""

    def reuse_variables(self) -> None:
        """Makes `get_variable` reuse variables and create none."""
        self.reuse = True

    def set_initializer(self, initializer: Initializer) -> None:
        """Sets the default initializer."""
        self.initializer = initializer

    def set_regularizer(self, regularizer: terms.Regularizer | None) -> None:
        """Sets the default regularizer."""
        self.regularizer = regularizer

    def join(self, name: str) -> str:
        """Returns a name in this scope."""
        return f"{self.name}/{name}" if self.name else name


@dataclasses.dataclass(eq=False)
class Pass:
    """One forward pass.

    Attributes:
        owner: the `tf1.variables.VariableStore`.
        graph: graph that the pass began in; None: eager code.
        scope: the current scope.
        seen: names of the variables that the pass has created or reused.
        counts: number of times each scope was opened, to number default names.
        added: number of times a variable was added to a collection, by key and id.
        values: what is collected in eager code outside a step, by key.
    """

    owner: Any
    graph: tf.Graph | None
    scope: VariableScope = dataclasses.field(default_factory=VariableScope)
    seen: set[str] = dataclasses.field(default_factory=set)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    added: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    values: dict[Any, list] = dataclasses.field(default_factory=dict)

    def find_free_name(self, default_name: str) -> str:
        """Returns a default name, with a number if the scope has used it already."""
        number, name = 0, default_name
        while self.counts.get(self.scope.join(name)):
            number += 1
            name = f"{default_name}_{number}"
        return name


class _Passes(threading.local):
    def __init__(self) -> None:
        self.stack: list[Pass] = []


_passes = _Passes()


@contextlib.contextmanager
def forward_pass(owner: Any) -> Iterator[None]:
    """Makes the block one forward pass with the variables of a store."""
    _passes.stack.append(Pass(owner, scopes.get_graph()))
    try:
        yield
    finally:
        _passes.stack.pop()


def get_pass(what: str) -> Pass:
    """Returns the current pass.

    Args:
        what: the caller, for the error.

    Raises:
        ValueError: there is no pass, or it began outside this tf.function.
    """
    write = "call it in the forward function of a tf1.Model"
    if not _passes.stack:
        raise ValueError(
            f"{what} must be called in a forward pass, got a call outside one: "
            f"{write}, or under `with tf1.VariableStore().as_default():`"
        )
    current = _passes.stack[-1]
    graph = current.graph
    if graph not in _tensorflow.get_chain(scopes.get_graph()) or scopes.is_in_function(
        graph
    ):
        # The function is traced once: later passes would miss the call.
        raise ValueError(
            f"{what} must be called where its forward pass began, got a tf.function "
            f"that is traced within the pass: {write}, and call that in the tf.function"
        )
    return current


def get_variable_scope() -> VariableScope:
    """Returns the current scope.

    Raises:
        ValueError: outside a forward pass.

    Source: `tf.compat.v1.get_variable_scope`.
    """
    return get_pass("get_variable_scope").scope


@contextlib.contextmanager
def variable_scope(
    name_or_scope: str | VariableScope | None,
    default_name: str | None = None,
    values: Any = None,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    *,
    custom_getter: Callable[..., Any] | None = None,
    reuse: Any = None,
    dtype: Any = None,
    constraint: Callable[[Any], Any] | None = None,
) -> Iterator[VariableScope]:
    """Opens a scope of variable names and defaults for the block.

    Args:
        name_or_scope: a name, joined to the outer scope's; a scope to reopen; or None:
            `default_name`, with a number if it is taken.
        default_name: used without a name. It can't be combined with `reuse`.
        values: ignored.
        initializer: default initializer; None: the outer scope's.
        regularizer: of every variable created in the block, biases too; None: the outer
            scope's; `no_regularizer`: none.
        custom_getter: called instead of `get_variable` as `custom_getter(getter=...,
            name=..., shape=..., dtype=..., ...)`, with the full name; its getter is the
            outer scope's, or creates the variable.
        reuse: True: variables are reused and none created; AUTO_REUSE: reused or
            created; None or False: the outer scope's.
        dtype: default dtype; None: the outer scope's.
        constraint: default constraint; None: the outer scope's.

    Yields:
        The scope.

    Raises:
        ValueError: no name, an unknown `reuse`, or outside a forward pass.
        TypeError: `name_or_scope` isn't a str, a scope or None.

    Source: `tf.compat.v1.variable_scope`.
    """
    del values
    current = get_pass(f"variable_scope({name_or_scope or default_name!r})")
    _check_scope(name_or_scope, default_name, reuse)
    outer, counts = current.scope, current.counts
    scope, old_counts = _open_scope(current, name_or_scope, default_name, reuse)
    scope.dtype = scope.dtype if dtype is None else tf.as_dtype(dtype)
    scope.initializer = scope.initializer if initializer is None else initializer
    scope.regularizer = scope.regularizer if regularizer is None else regularizer
    scope.constraint = scope.constraint if constraint is None else constraint
    if custom_getter is not None:
        scope.custom_getter = _nest_getters(custom_getter, scope.custom_getter)
    last = scope.name.rpartition("/")[2]
    name = name_or_scope if isinstance(name_or_scope, str) else last
    current.scope = scope
    try:
        with tf.name_scope(name) if name else contextlib.nullcontext("") as name_scope:
            scope.original_name_scope = scope.original_name_scope or name_scope
            yield scope
    finally:
        current.scope = outer
        if old_counts is not None:
            current.counts = old_counts
        else:
            for name in counts:
                if name.startswith(f"{scope.name}/"):
                    counts[name] = 0


def _nest_getters(
    inner: Callable[..., Any], outer: Callable[..., Any] | None
) -> Callable[..., Any]:
    if outer is None:
        return inner

    def get(getter: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return inner(functools.partial(outer, getter), *args, **kwargs)

    return get


def _open_scope(
    current: Pass, name_or_scope: Any, default_name: str | None, reuse: Any
) -> tuple[VariableScope, dict[str, int] | None]:
    """Returns a new scope; and, if it reopens one, the counts to restore after it."""
    if isinstance(name_or_scope, VariableScope):
        scope = dataclasses.replace(name_or_scope, reuse=reuse or name_or_scope.reuse)
    else:
        if name_or_scope is None:
            name_or_scope = current.find_free_name(str(default_name))
        name = current.scope.join(name_or_scope)
        scope = dataclasses.replace(
            current.scope, name=name, reuse=reuse or current.scope.reuse
        )
        scope.original_name_scope = ""
    current.counts[scope.name] = current.counts.get(scope.name, 0) + 1
    reopened = isinstance(name_or_scope, VariableScope)
    return scope, dict(current.counts) if reopened else None


def _check_scope(name_or_scope: Any, default_name: str | None, reuse: Any) -> None:
    if not (name_or_scope is None or isinstance(name_or_scope, str | VariableScope)):
        raise TypeError(
            "name_or_scope must be a str, a scope or None, got "
            f"{name_or_scope!r}: pass a name"
        )
    if name_or_scope is None and default_name is None:
        raise ValueError(
            "name_or_scope must be given if there is no default_name, got None: pass a "
            "name"
        )
    if name_or_scope is None and reuse:
        raise ValueError(
            f"reuse must be left out without a name_or_scope, got {reuse!r}: pass a "
            "name, since a default name is always new"
        )
    if reuse not in (None, False, True, AUTO_REUSE):
        raise ValueError(
            f"reuse must be True, False, None or tf1.AUTO_REUSE, got {reuse!r}: "
            "choose one of them"
        )


def label(value: Any, name: str) -> Any:
    """Sets the name of a tensor that `get_collection` filters by; returns the tensor.

    TensorFlow's names won't do: eager tensors have none, and another replica or trace
    has another one.
    """
    scope = re.sub(r"^(.*/)?replica_\d+(/|$)", "", tf.get_current_name_scope())
    value._tfreg_name = f"{scope}/{name}" if scope else name
    return value


def find_pass() -> Pass | None:
    """Returns the innermost pass, None outside any."""
    return _passes.stack[-1] if _passes.stack else None


def join(name: str) -> str:
    """Returns a name in the current scope; outside a forward pass the name itself."""
    current = find_pass()
    return name if current is None else current.scope.join(name)
