"""Ownership of penalties: the terms and the losses of one model in a step.

    penalties = ownership.sum_penalties(ownership.Model(model))  # under the step's tape

A model owns the terms of its variables and the losses that its modules add in a step.
The traps: counting a penalty of another model in the same process, and missing one of
this model that was computed where the total can't read it.
"""

import contextlib
import itertools
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import parts, scopes, terms

ADVICE = (
    "call the model and total_loss in the same tf.function, branch, loop or replica, "
    "in eager code inside one `with tfreg.step_scope():`"
)
_numbers = itertools.count()

# Modules whose losses were dropped in eager code outside a step, by id.
_outside: dict[int, tuple[weakref.ref, Any, str]] = {}
_adapted = threading.local()  # Whether the step of an adapted model is open.


def matches(scope: str | None, name: str | None) -> bool:
    """Returns whether a name matches a scope at its beginning; None matches all."""
    return scope is None or (name is not None and re.match(scope, name) is not None)


def add_loss(
    value: tf.Tensor, name: str, owner: Any, store: Any, per_example: bool = True
) -> None:
    """Adds a loss to this step.

    Args:
        value: floating scalar.
        name: the name that `get_collection` matches.
        owner: the module that adds it; None for a plain function.
        store: the default store.
        per_example: whether it is a mean over this replica's examples. If not, it is
            the same on every replica and counts once.

    Raises:
        ValueError: `value` isn't a scalar, or it has no owner and is added in eager
            code outside a step.
    """
    record = scopes.get_record()
    value = terms.apply_each(lambda v: v, [value], name)
    if not note_call(record, owner, store, name):
        return
    if record is None:
        raise ValueError(
            f"a loss must be added inside a step, got {name} in eager code outside "
            f"one, where it would be a constant for ever: {ADVICE}; for a penalty of "
            "variables use apply_regularization or a layer's regularizer"
        )
    loss = scopes.StepLoss(
        name=name,
        value=tf.identity(value),
        per_example=per_example,
        owner=None if owner is None else weakref.ref(owner),
        store=store,
        record=record,
        number=next(_numbers),
        is_recorded=_tensorflow.is_recording(),
        vector_loop=scopes.get_vector_loop(),
    )
    record.losses.append(loss)


@scopes.do_not_convert
def add_activity(
    regularizer: terms.Regularizer,
    outputs: tf.Tensor,
    name: str,
    owner: Any,
    store: Any,
) -> None:
    """Adds a layer's activity penalty to this step; outside one it isn't computed."""
    if note_call(scopes.get_record(), owner, store, name):
        penalty = terms.measure_activity(regularizer, outputs)
        if penalty is not None:
            add_loss(penalty, name, owner, store)


def note_call(record: scopes.Record | None, owner: Any, store: Any, name: str) -> bool:
    """Records that a module was called; returns whether it should add its loss.

    In eager code outside a step the loss of a module is dropped, so that prediction
    costs nothing. A later eager total raises, unless its step calls the module again.
    """
    if owner is None:
        return True
    if record is None:
        key = id(owner)
        reference = weakref.ref(owner, lambda _: _outside.pop(key, None))
        _outside[key] = reference, store, name
        return False
    _outside.pop(id(owner), None)
    if not record.has(owner):
        record.owners.append(weakref.ref(owner))
    return True


def forget_outside(store: Any) -> None:
    """Clears the record of losses that a store's modules dropped outside a step."""
    for key, (_, other, _) in tuple(_outside.items()):
        if other is store:
            del _outside[key]


@contextlib.contextmanager
def counting_keras() -> Iterator[None]:
    """Counts Keras's regularizers in each total; the caller adds the layers' losses."""
    before = getattr(_adapted, "is_open", False)
    _adapted.is_open = True
    try:
        yield
    finally:
        _adapted.is_open = before


class Model:
    """The parts, terms and losses of a model in this step.

    Args:
        model: as for `parts.name_parts`.
        keras: whether the regularizers of Keras's variables count as terms, and the
            caller adds the losses of Keras's layers, as `tfreg.models.adapt` does; so
            it is in `counting_keras`. If not, a total raises for a penalty of Keras
            that nobody has added.

    Raises:
        TypeError: `model` can't hold variables.
    """

    def __init__(self, model: Any, keras: bool = False) -> None:
        self.model = model
        self.parts = parts.list_parts(model)
        self.keras = keras or getattr(_adapted, "is_open", False)
        if parts.is_loaded(model):
            warnings.warn(
                "a model of tf.saved_model.load has lost its penalties: build it and "
                "restore its checkpoint, or use tfreg.rules.apply",
                stacklevel=2,
            )
        self.ids = {id(part) for part in self.parts}
        self.key = frozenset(id(p) for p in self.parts if terms.is_variable(p))
        self._holders: dict[int, bool] = {}

    def owns(self, loss: scopes.StepLoss) -> bool:
        """Returns whether the owner is in the model, contains it, or is None."""
        if loss.owner is None:
            return True
        owner = loss.owner()
        return owner is not None and (id(owner) in self.ids or self._is_held(owner))

    def is_its_own(self, loss: scopes.StepLoss) -> bool:
        """Returns whether a module of the model added a loss."""
        return loss.owner is not None and id(loss.owner()) in self.ids

    def _is_held(self, owner: Any) -> bool:
        """Returns whether a module contains the model, as a training step may."""
        if id(owner) not in self._holders:
            ids = {id(part) for part in parts.list_parts(owner)}
            self._holders[id(owner)] = bool(self.key) and self.key <= ids
        return self._holders[id(owner)]

    def get_terms(self) -> list[terms.Term]:
        """Returns the terms of the model's variables, in order of creation.

        Those of Keras's regularizers come last.
        """
        listed = parts.list_terms(self.parts)
        if self.keras:
            for variable in parts.list_keras_variables(self.parts, trainable=True):
                regularizer = variable.regularizer
                if regularizer is not None:
                    name = terms.get_name(regularizer)
                    name = f"{variable.path}/Regularizer/{name}"
                    references = (weakref.ref(variable),)
                    listed.append(terms.Term(name, regularizer, references))
        return listed


@scopes.do_not_convert
def sum_penalties(model: Model, scope: str | None = None) -> list[terms.Penalty]:
    """Returns all penalties of a model, evaluated now, for use in a total.

    Args:
        model: the owner of the penalties.
        scope: regular expression, matched at the beginning of each name.

    Raises:
        ValueError: a penalty can't be read, would be counted twice, or has no
            gradient; the message says what to write.
    """
    losses = [
        loss
        for record in scopes.get_visible_records()
        for loss in record.losses
        if model.owns(loss) and matches(scope, loss.name)
    ]
    for part in model.parts:
        _check_activity(part, scope)
        _check_frozen(part)
        if not losses and not model.keras:
            _check_keras(part)
    if not model.keras and _tensorflow.is_recording():
        _check_listed(model)
    check_hidden(lambda s: s.owner is None or model.is_its_own(s), scope)
    check_outside(lambda owner, store: id(owner) in model.ids, scope)
    count(losses, model.key)
    _check_sole_total([s for s in losses if not model.is_its_own(s)], model.key)
    penalties = [
        terms.Penalty(term.name, value, per_example=False, is_term=True)
        for term in model.get_terms()
        if matches(scope, term.name) and (value := term(model.ids)) is not None
    ]
    return penalties + read(losses)


def read(losses: Sequence[scopes.StepLoss]) -> list[terms.Penalty]:
    """Returns the penalties of losses and marks them as read."""
    for loss in losses:
        loss.is_read = True
    return [terms.Penalty(s.name, s.value, s.per_example) for s in losses]


def _check_activity(part: Any, scope: str | None) -> None:
    """Raises if a layer with an activity regularizer wasn't called in this step."""
    if not hasattr(type(part), "penalize_activity") or not part.activity_regularizer:
        return
    name = f"{part.name}/activity"
    if not matches(scope, name) or any(
        record.has(part) for record in scopes.get_visible_records()
    ):
        return
    hidden = [record for record in scopes.get_hidden_records() if record.has(part)]
    losses = [s for r in hidden for s in r.losses if s.owner and s.owner() is part]
    if hidden and all(loss.is_read for loss in losses):
        return
    raise ValueError(_describe(name, "elsewhere" if hidden else "nowhere in this step"))


def _check_frozen(part: Any) -> None:
    """Raises if `trainable = False` was set on a foreign module, which ignores it."""
    switch = getattr(part, "__dict__", {}).get("trainable")
    if switch is not False or not isinstance(part, tf.Module):
        return
    if any(v.trainable for v in part.variables):
        raise ValueError(
            "trainable must be set on a layer of tfreg, got False on a "
            f"{type(part).__name__}, whose variables are trained all the same: set it "
            "on its layers, or leave them out of the variables that are trained"
        )


def _check_keras(part: Any) -> None:
    """Raises if a module has a Keras penalty that wasn't added to the step."""
    of_layer = parts.is_keras(part) and getattr(part, "activity_regularizer", None)
    of_weight = terms.is_variable(part) and getattr(part, "regularizer", None)
    if (of_layer or of_weight) and part.trainable:
        raise ValueError(
            f"penalties of {getattr(part, 'path', part.name)} must be added, got a "
            "regularizer of Keras, which stays in `losses`: call "
            "tfreg.add_loss(penalty) for each of the `losses` of the Keras layer or "
            "model in the step, or use tfreg.rules.apply or a layer of tfreg"
        )


def _check_listed(model: Model) -> None:
    """Warns if a module holds Keras layers that it doesn't list for training."""
    listed = getattr(model.model, "trainable_variables", None)
    if listed is None or parts.is_keras(model.model):
        return
    known = {id(parts.unwrap(variable)) for variable in listed}
    trained = parts.list_keras_variables(model.parts, trainable=True)
    names = [v.path for v in trained if id(parts.unwrap(v)) not in known]
    if names:
        warnings.warn(
            f"trainable_variables of a {type(model.model).__name__} must list what is "
            f"trained, got none of the Keras variables {', '.join(names)}: train "
            "tfreg.models.adapt(model).trainable_variables, or pass total_loss a list "
            "of the model's parts if your loop trains them anyway",
            stacklevel=2,
        )


def check_hidden(
    is_counted: Callable[[scopes.StepLoss], bool], scope: str | None
) -> None:
    """Raises if this step has computed a loss that the current code can't read."""
    visible = scopes.get_visible_records()
    for record in scopes.get_hidden_records():
        for loss in record.losses:
            if loss.is_read or not is_counted(loss) or not matches(scope, loss.name):
                continue
            owner = loss.owner() if loss.owner else None
            again = owner is not None and any(r.has(owner) for r in visible)
            # A separate step scope, which has ended: its losses are not for this total.
            is_over = record.scope is not None and not record.scope.is_open
            if is_over and (again or loss.owner is None):
                continue
            place = "in another function, replica, branch, loop or scope"
            raise ValueError(_describe(loss.name, place))


def check_outside(is_counted: Callable[[Any, Any], bool], scope: str | None) -> None:
    """Raises in eager code if a module has dropped a loss outside a step."""
    if scopes.get_graph() is not None:
        return  # A trace counts no eager losses, for example of an earlier prediction.
    visible = scopes.get_visible_records()
    for reference, store, name in tuple(_outside.values()):
        owner = reference()
        if owner is None or not is_counted(owner, store) or not matches(scope, name):
            continue
        if not any(record.has(owner) for record in visible):
            raise ValueError(_describe(name, "in eager code outside any step"))


def _describe(name: str, place: str) -> str:
    eagerly = ""
    if tf.config.functions_run_eagerly():
        eagerly = " (run_functions_eagerly disables tf.function)"
    return (
        f"{name} must be computed where total_loss counts it, got it computed {place}"
        f"{eagerly}: {ADVICE}; or pass total_loss only the part of the model that the "
        "step calls"
    )


def count(losses: Sequence[scopes.StepLoss], key: Any) -> None:
    """Records that a total counts these losses.

    Args:
        losses: losses of one step.
        key: identifies the total; for a model, the set of its variables' ids.

    Raises:
        ValueError: the total would be wrong: an earlier total already counted some of
            the losses; a value is that of one element of a `tf.vectorized_map`, or of
            the first call of a tf.function; or a loss has no gradient.
    """
    loop = scopes.get_vector_loop() or ""
    totals = [loss.totals[key] for loss in losses if key in loss.totals]
    for loss in losses:
        if totals and key not in loss.totals and loss.number > min(totals):
            raise ValueError(
                f"{loss.name} must be in one total, got a second total_loss after "
                "another forward pass in the same step: put each pass and its total "
                "into a `with tfreg.step_scope():` of its own"
            )
        _check_place(loss, loop)
    number = next(_numbers)
    for loss in losses:
        loss.totals.setdefault(key, number)


def _check_sole_total(losses: Sequence[scopes.StepLoss], key: frozenset) -> None:
    """Raises if a loss without an owner is in the totals of two models."""
    for loss in losses:
        if any(isinstance(k, frozenset) and k != key for k in loss.totals):
            raise ValueError(
                f"{loss.name} must be in one model's total, got it from a plain "
                "function in a step with the totals of two models: add it in a method "
                "of the model that it belongs to"
            )


def _check_place(loss: scopes.StepLoss, loop: str) -> None:
    """Raises if a readable value would be wrong in this total."""
    graph = loss.record.graph
    inside = loss.vector_loop is None or f"{loop}/".startswith(f"{loss.vector_loop}/")
    if graph is scopes.get_graph() and not inside:
        raise ValueError(_describe(loss.name, "in a tf.vectorized_map"))
    if graph is not None and scopes.is_in_function(graph):
        raise ValueError(_describe(loss.name, "outside the tf.function of total_loss"))
    if _tensorflow.is_recording() and not loss.is_recorded:
        raise ValueError(
            f"{loss.name} must have a gradient, got it computed where no tape records: "
            "call the model under the tape, or in a `with tfreg.step_scope():` of its "
            "own if this pass isn't trained; for tf.recompute_grad make the layer "
            "without its activity regularizer, and call "
            "tfreg.penalize_activity(regularizer, outputs) with the outputs that it "
            "returns"
        )
