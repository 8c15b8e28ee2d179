"""The modules, layers and variables of a model, whichever library it is from.

    parts.name_parts(model)  # [("", model), ("layers/1/kernel", ...), ...]

The trap: `tf.Module.variables` omits the variables of Keras layers, Keras's `weights`
omits those of tf.Modules, and both skip lists in plain objects.
"""

import inspect
import itertools
import operator
import re
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import terms

# Types of values that hold nothing, which a walk needn't look at.
_PLAIN = frozenset({bool, float, int, str, types.FunctionType, types.NoneType})


def name_parts(model: Any) -> list[tuple[str, Any]]:
    """Returns the modules, layers and variables in a model with their paths.

    Args:
        model: a tf.Module, a Keras or Sonnet model, any object with `variables`, or a
            list, tuple or dict of these.

    Returns:
        Pairs of a path and a part. A path consists of attribute names and indices, for
        example `blocks/0/w`; the path of the model itself is "". A part that several
        attributes refer to has several paths.

    Raises:
        TypeError: `model` can't hold variables, for example a function.
    """
    named: list[tuple[str, Any]] = []
    walked: set[int] = set()
    waiting: list[tuple[str, Any, tuple[int, ...]]] = [("", model, ())]
    for path, item, holders in waiting:  # The list grows during the loop.
        inside = (*holders, id(item))
        children: Iterable[tuple[Any, Any]] = ()
        if isinstance(item, Mapping):
            children = item.items()
        elif isinstance(item, list | tuple | set | frozenset):
            children = enumerate(item)
        elif terms.is_variable(item) or is_module(item):
            named.append((path, item))
            children = _get_attributes(item)
            # A tf.Module is listed under every path; Keras has names of its own.
            if id(item) in walked and not isinstance(item, tf.Module):
                continue
        elif item is model:
            children = _get_attributes(item)
        walked.add(id(item))
        if id(item) not in holders:
            waiting += [(_join(path, key), value, inside) for key, value in children]
    known = {id(each) for _, part in named for each in (part, unwrap(part))}
    others: Iterable[Any] = get_listed(model, "variables")
    if is_loaded(model):  # The classes of its objects are unknown.
        others = filter(terms.is_variable, tf.train.TrackableView(model).descendants())
    named += [(v.name.partition(":")[0], v) for v in others if id(v) not in known]
    if not named:
        raise TypeError(
            "model must be what holds the variables, as a tf.Module, a Keras model or "
            f"a list of layers, got {model!r}: pass the layers that it calls"
        )
    return named


def get_listed(model: Any, name: str) -> Sequence[Any]:
    """Returns what a model lists as its `variables` or `trainable_variables`."""
    try:
        return getattr(model, name, None) or ()
    except ValueError:  # Sonnet raises where there are none yet.
        return ()


def _get_attributes(item: Any) -> Iterable[tuple[str, Any]]:
    if terms.is_variable(item):
        return ()
    # Of a Keras layer's attributes two thirds are plain values.
    kept = [
        pair
        for pair in getattr(item, "__dict__", {}).items()
        if type(pair[1]) not in _PLAIN
        # TensorFlow's tracking attributes only repeat the others.
        and not pair[0].startswith("_self_")
    ]
    return sorted(kept, key=operator.itemgetter(0))


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def list_parts(model: Any) -> list[Any]:
    """Returns a model and all modules, layers and variables in it, each once.

    Args:
        model: as for `name_parts`.

    Raises:
        TypeError: `model` can't hold variables.
    """
    return list({id(part): part for _, part in name_parts(model)}.values())


def list_terms(parts: Sequence[Any]) -> list[terms.Term]:
    """Returns the terms of the variables among parts, in order of creation."""
    unique = {term for part in parts for term in terms.get_terms(part)}
    return sorted(unique, key=lambda term: term.number)


def find_owner() -> Any:
    """Returns the innermost module whose method is running, or None."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if is_module(first) and hasattr(first, code.co_name.removeprefix("tf__")):
            return first
        frame = frame.f_back
    return None


def is_module(value: Any) -> bool:
    """Returns whether a value is a tf.Module, or has variables like a Keras layer."""
    # Checked on the class, because Keras computes its properties.
    return isinstance(value, tf.Module) or hasattr(type(value), "trainable_variables")


def is_keras(value: Any) -> bool:
    """Returns whether a value is a Keras layer or model."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Layer)


def is_keras_variable(value: Any) -> bool:
    """Returns whether a value is a variable of Keras 3, which holds a tf.Variable."""
    # `keras.Variable` isn't the class of a layer's variables in the first versions.
    is_other = terms.is_variable(value) and not isinstance(value, tf.Variable)
    return is_other and hasattr(type(value), "regularizer")


def list_keras_variables(parts: Sequence[Any], trainable: bool = False) -> list[Any]:
    """Returns the Keras variables among parts, each once.

    They include the states of random numbers, which Keras lists beside the weights.

    Args:
        parts: of `list_parts`; a Keras layer is asked for all variables in it.
        trainable: whether to return only those that are trained.
    """
    if "keras" not in sys.modules:
        return []
    known: set[int] = set()
    found: list[Any] = []
    for part in parts:  # The outer layers first: a frozen one freezes those in it.
        if is_keras(part):
            each = part.variables
            chosen = part.trainable_variables if trainable else each
        elif is_keras_variable(part):
            each = [part]
            chosen = each if part.trainable or not trainable else []
        elif isinstance(part, tf.Module):
            each = [v.state for v in vars(part).values() if _is_generator(v)]
            chosen = [] if trainable else each
        else:
            continue
        found += [variable for variable in chosen if id(variable) not in known]
        known |= {id(variable) for variable in each}
    return found


def _is_generator(value: Any) -> bool:
    return isinstance(value, sys.modules["keras"].random.SeedGenerator)


def unwrap(variable: Any) -> Any:
    """Returns the tf.Variable in a variable of Keras, and any other as it is.

    Inside a `keras.StatelessScope`, `variable.value` is a tensor: so the tf.Variable is
    remembered once it has been seen outside of one.
    """
    if not is_keras_variable(variable):
        return variable
    known = vars(variable).get("_tfreg_variable")
    if known is None:
        known = variable.value
        if isinstance(known, tf.Variable):
            variable._tfreg_variable = known
    return known


def is_loaded(value: Any) -> bool:
    """Returns whether a value is from `tf.saved_model.load`, which loads no terms."""
    return hasattr(value, "signatures") and hasattr(value, "tensorflow_version")


def matches_path(pattern: str, path: str) -> bool:
    """Returns whether a regular expression matches a path, or consecutive parts of it.

    So `head` matches `sequential_2/head/kernel`, whatever number Keras gives a model.
    """
    names = path.split("/")
    spans = itertools.combinations(range(len(names) + 1), 2)
    return any(re.fullmatch(pattern, "/".join(names[i:j])) for i, j in spans)
