"""TF1's variable scopes: names, defaults and reuse, counted anew in each forward pass.

    with tf1.variable_scope("fc", regularizer=tf1.l2_regularizer(1e-4)) as scope:
        w = tf1.get_variable("w", [784, 10])  # fc/w
    with tf1.variable_scope(scope, reuse=True):
        same = tf1.get_variable("w")

The trap: a forward function that runs again in eager code or in another trace, where
TF1's counts of default names would go on. A *pass* begins and ends with each call.
"""

import collections
import contextlib
import dataclasses
import re
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import scopes, terms

AUTO_REUSE = tf.compat.v1.AUTO_REUSE
Initializer = Any  # A callable of shape and dtype or of nothing, its class, or a value.


@dataclasses.dataclass(eq=False)
class VariableScope:
    """What `get_variable` prefixes and defaults to. Source: TF1's class of the name."""

    name: str = ""
    reuse: Any = False
    initializer: Initializer = None
    regularizer: terms.Regularizer | None = None
    dtype: tf.DType = tf.float32
    original_name_scope: str = ""

    def reuse_variables(self) -> None:
        """Makes `get_variable` find variables and make none."""
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
    """One forward pass: what it has made or found so far, and the scope it is in.

    `owner` is the `tf1.variables.VariableStore`, `graph` where the pass began.
    """

    owner: Any
    graph: tf.Graph | None
    scope: VariableScope = dataclasses.field(default_factory=VariableScope)
    seen: set[str] = dataclasses.field(default_factory=set)
    # How often each scope was opened; from it come the numbers of default names.
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    # How often a variable was added to a collection, by the key and its id.
    added: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def find_free(self, default_name: str) -> str:
        """Returns a default name with a number, if the scope has it already."""
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
    """Makes the block one forward pass on the variables of a store."""
    _passes.stack.append(Pass(owner, scopes.get_graph()))
    try:
        yield
    finally:
        _passes.stack.pop()


def get_pass(what: str) -> Pass:
    """Returns the pass that is going on.

    Args:
        what: asks for it, for the error.

    Raises:
        ValueError: there is none, or it began outside this tf.function.
    """
    write = "call it in the forward function of a tf1.Model"
    if not _passes.stack:
        raise ValueError(
            f"{what} must be called in a forward pass, got a call outside one: "
            f"{write}, or under `with tf1.VariableStore().as_default():`"
        )
    here = _passes.stack[-1]
    graph = here.graph
    if graph not in _tensorflow.get_chain(scopes.get_graph()) or scopes.is_in_function(
        graph
    ):
        # Traced once, it would be left out of the passes to come.
        raise ValueError(
            f"{what} must be called where its forward pass began, got a tf.function "
            f"that is traced within the pass: {write} that is called in there"
        )
    return here


def get_variable_scope() -> VariableScope:
    """Returns the scope that is open. Source: `tf.compat.v1.get_variable_scope`."""
    return get_pass("get_variable_scope").scope


@contextlib.contextmanager
def variable_scope(
    name_or_scope: str | VariableScope | None,
    default_name: str | None = None,
    values: Any = None,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    *,
    reuse: Any = None,
    dtype: Any = None,
) -> Iterator[VariableScope]:
    """Opens a scope of variables' names and defaults, inside the block.

    Args:
        name_or_scope: a name, joined to that of the scope around; a scope to return to;
            or None: `default_name`, with a number where it is taken.
        default_name: used without a name; it may be reused in an outer scope alone.
        values: nothing depends on it.
        initializer: the variables' default; None: that of the scope around.
        regularizer: of every variable made in here, biases too; None: that of the scope
            around; `no_regularizer`: none.
        reuse: True: variables are found and none made; AUTO_REUSE: either; None or
            False: as the scope around.
        dtype: the variables' default; None: that of the scope around.

    Yields:
        The scope.

    Raises:
        ValueError: no name, another `reuse`, or outside a forward pass.
        TypeError: the name is something else.

    Source: `tf.compat.v1.variable_scope`.
    """
    del values
    here = get_pass(f"variable_scope({name_or_scope or default_name!r})")
    _check_scope(name_or_scope, default_name, reuse)
    around, counts = here.scope, here.counts
    scope, old_counts = _open_scope(here, name_or_scope, default_name, reuse)
    scope.dtype = scope.dtype if dtype is None else tf.as_dtype(dtype)
    scope.initializer = scope.initializer if initializer is None else initializer
    scope.regularizer = scope.regularizer if regularizer is None else regularizer
    last = scope.name.rpartition("/")[2]
    name = name_or_scope if isinstance(name_or_scope, str) else last
    here.scope = scope
    try:
        with tf.name_scope(name) if name else contextlib.nullcontext("") as name_scope:
            scope.original_name_scope = scope.original_name_scope or name_scope
            yield scope
    finally:
        here.scope = around
        if old_counts is not None:
            here.counts = old_counts
        else:
            for name in counts:
                if name.startswith(f"{scope.name}/"):
                    counts[name] = 0


def _open_scope(
    here: Pass, name_or_scope: Any, default_name: str | None, reuse: Any
) -> tuple[VariableScope, dict[str, int] | None]:
    """Returns a new scope, and the counts to go back to after one returned to."""
    if isinstance(name_or_scope, VariableScope):
        scope = dataclasses.replace(name_or_scope, reuse=reuse or name_or_scope.reuse)
    else:
        if name_or_scope is None:
            name_or_scope = here.find_free(str(default_name))
        name = here.scope.join(name_or_scope)
        scope = dataclasses.replace(
            here.scope, name=name, reuse=reuse or here.scope.reuse
        )
        scope.original_name_scope = ""
    here.counts[scope.name] = here.counts.get(scope.name, 0) + 1
    returned = isinstance(name_or_scope, VariableScope)
    return scope, dict(here.counts) if returned else None


def _check_scope(name_or_scope: Any, default_name: str | None, reuse: Any) -> None:
    if not (name_or_scope is None or isinstance(name_or_scope, str | VariableScope)):
        raise TypeError(
            "name_or_scope must be a str, a scope or None, got "
            f"{name_or_scope!r}: pass a name"
        )
    if name_or_scope is None and default_name is None:
        raise ValueError(
            "name_or_scope must be given without a default_name, got None: pass a name"
        )
    if name_or_scope is None and reuse:
        raise ValueError(
            f"reuse must be left out without a name_or_scope, got {reuse!r}: a default "
            "name is a new one, so pass a name"
        )
    if reuse not in (None, False, True, AUTO_REUSE):
        raise ValueError(
            f"reuse must be True, False, None or tf1.AUTO_REUSE, got {reuse!r}: "
            "choose one of them"
        )


def label(value: Any, name: str) -> Any:
    """Gives a tensor the name that `get_collection` filters by; returns it.

    Eager tensors have none, and those of a second replica or trace another one.
    """
    scope = re.sub(r"^(.*/)?replica_\d+(/|$)", "", tf.get_current_name_scope())
    value._tfreg_name = f"{scope}/{name}" if scope else name
    return value


def find_pass() -> Pass | None:
    """Returns the innermost pass, None outside of all."""
    return _passes.stack[-1] if _passes.stack else None


def join(name: str) -> str:
    """Returns a name in the scope that is open, if there is a forward pass."""
    here = find_pass()
    return name if here is None else here.scope.join(name)
