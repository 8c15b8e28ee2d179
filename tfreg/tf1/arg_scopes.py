"""slim's arg_scope: default arguments for all calls of some functions in a block.

    decay = tf1.l2_regularizer(1e-4)
    with tf1.arg_scope([tf1.layers.conv2d], weights_regularizer=decay):
        x = tf1.layers.conv2d(images, 64, [3, 3])
        x = tf1.layers.conv2d(x, 64, [3, 3], weights_regularizer=None)  # not this one

The trap: a replica runs in a thread of its own, which doesn't see its caller's scopes.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tfreg.collections import stacks

_Function = TypeVar("_Function", bound=Callable[..., Any])
ArgScope = dict[Any, dict[str, Any]]  # A function's key -> its default arguments.

_stacks: stacks.ThreadStacks[ArgScope] = stacks.ThreadStacks()
_arguments: dict[Any, tuple[str, ...]] = {}


def arg_scope_func_key(op: Callable[..., Any]) -> Any:
    """Returns the key of a function in an arg_scope."""
    return getattr(op, "_key_op", str(op))


def current_arg_scope() -> ArgScope:
    """Returns the current default arguments.

    Source: `tf.contrib.framework.current_arg_scope`.
    """
    open_scopes = _stacks.get() or [stack[-1] for stack in _stacks.get_callers()]
    return open_scopes[-1] if open_scopes else {}


@contextlib.contextmanager
def arg_scope(
    list_ops_or_scope: Sequence[Callable[..., Any]] | ArgScope, **kwargs: Any
) -> Iterator[ArgScope]:
    """Sets default arguments of functions for the block.

    Args:
        list_ops_or_scope: functions decorated by `add_arg_scope`, or stand-ins for
            them; or the value of an earlier arg_scope, to reuse it.
        **kwargs: the defaults. An argument of the call overrides them, also None.

    Yields:
        The defaults of the block, to reuse.

    Raises:
        TypeError: `list_ops_or_scope` isn't a list, tuple or dict.
        ValueError: a function isn't decorated, or a reused scope gets defaults.

    Source: `tf.contrib.framework.arg_scope`.
    """
    if isinstance(list_ops_or_scope, dict):
        if kwargs:
            raise ValueError(
                "kwargs must be empty for a reused scope, got "
                f"{sorted(kwargs)}: open another arg_scope inside it"
            )
        scope = dict(list_ops_or_scope)
    elif isinstance(list_ops_or_scope, list | tuple):
        scope = dict(current_arg_scope())
        for op in list_ops_or_scope:
            if getattr(op, "is_unported", False):
                continue  # A stand-in of tfreg.porting: it raises where it is called.
            if not has_arg_scope(op):
                raise ValueError(
                    "list_ops_or_scope must hold functions decorated by add_arg_scope, "
                    f"got {op!r}: decorate it"
                )
            key = arg_scope_func_key(op)
            scope[key] = scope.get(key, {}) | kwargs
    else:
        raise TypeError(
            "list_ops_or_scope must be a list, a tuple or a scope (a dict), got "
            f"{list_ops_or_scope!r}: write [function]"
        )
    with _stacks.push(scope):
        yield scope


def add_arg_scope(func: _Function) -> _Function:
    """Decorates a function to take default arguments from an `arg_scope`.

    Source: `tf.contrib.framework.add_arg_scope`.
    """

    @functools.wraps(func)
    def with_defaults(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **current_arg_scope().get(key, {}) | kwargs)

    key = arg_scope_func_key(func)
    with_defaults._key_op = key  # type: ignore[attr-defined]
    parameters = inspect.signature(func).parameters.values()
    _arguments[key] = tuple(p.name for p in parameters if p.default is not p.empty)
    return with_defaults  # type: ignore[return-value]


def has_arg_scope(func: Callable[..., Any]) -> bool:
    """Returns whether a function is decorated by `add_arg_scope`.

    Source: `tf.contrib.framework.has_arg_scope`.
    """
    return arg_scope_func_key(func) in _arguments


def arg_scoped_arguments(func: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the arguments of a decorated function that an `arg_scope` can set.

    Raises:
        ValueError: the function isn't decorated.

    Source: `tf.contrib.framework.arg_scoped_arguments`.
    """
    if not has_arg_scope(func):
        raise ValueError(
            f"func must be decorated by add_arg_scope, got {func!r}: decorate it"
        )
    return _arguments[arg_scope_func_key(func)]
