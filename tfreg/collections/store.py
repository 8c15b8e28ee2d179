"""Collections of TF1 for TF2: what is penalized, and what a step added to its loss.

    regularizer = tfreg.l2_regularizer(1e-4)
    tfreg.get_default_store().add_term("w", regularizer, [w])  # lives as long as w
    with tfreg.step_scope():  # eager code; in a tf.function the trace is the scope
        tfreg.add_loss(tf.reduce_mean(y**2), name="energy")  # lives for this step
        loss = tfreg.losses.total_loss(data_loss)

The trap: a penalty kept as a tensor is stale in the next step, or belongs to another
trace. A weight penalty is kept as a *term* and evaluated where it is asked for.
"""

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import ledger, scopes, terms

_default: "Store"
_stores: scopes.ThreadStacks["Store"] = scopes.ThreadStacks()
_all: list[weakref.ref["Store"]] = []
_numbers = itertools.count()


class GraphKeys:
    """Standard names of collections. Source: `tf.compat.v1.GraphKeys`."""

    ACTIVATIONS = "activations"
    BIASES = "biases"
    GLOBAL_STEP = "global_step"
    GLOBAL_VARIABLES = "variables"
    LOCAL_VARIABLES = "local_variables"
    LOSSES = "losses"
    METRIC_VARIABLES = "metric_variables"
    MODEL_VARIABLES = "model_variables"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    REGULARIZATION_LOSSES = "regularization_losses"
    SUMMARIES = "summaries"
    TABLE_INITIALIZERS = "table_initializer"
    TRAINABLE_VARIABLES = "trainable_variables"
    UPDATE_OPS = "update_ops"
    WEIGHTS = "weights"


def _find_free(name: str, taken: Container[str]) -> str:
    names = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1)))
    return next(n for n in names if n not in taken)


def _is_losses_key(key: Hashable) -> bool:
    return isinstance(key, str) and key.endswith("losses")


def _is_eager_tensor(value: Any) -> bool:
    return tf.is_tensor(value) and hasattr(value, "numpy") and not _is_variable(value)


def _is_variable(value: Any) -> bool:
    return isinstance(value, tf.Variable)


def _get_key(source: Any, name: str) -> Hashable:
    return name if source is None else weakref.ref(source)


class Store:
    """A set of collections; the counterpart of what a `tf.Graph` held in TF1."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._values: dict[Hashable, list] = {}
        # Terms and layers' variables, weakly: whoever owns them decides their life.
        self._owned: dict[Hashable, list[weakref.ref]] = {}
        self._names: weakref.WeakValueDictionary[str, Any] = (
            weakref.WeakValueDictionary()
        )
        self._ledger = ledger.Ledger()
        _all.append(weakref.ref(self, _all.remove))

    @contextlib.contextmanager
    def as_default(self) -> Iterator["Store"]:
        """Makes this the store that layers and functions use inside the block."""
        with _stores.push(self):
            yield self

    # What lives as long as its owner.

    def make_name(self, kind: str, owner: Any) -> str:
        """Returns `kind`, or `kind_1`, ..., whichever no living owner has."""
        with self._lock:
            name = _find_free(kind, self._names)
            self._names[name] = owner
        return name

    @scopes.do_not_convert
    def add_term(
        self,
        name: str,
        regularizer: terms.Regularizer,
        variables: Sequence[tf.Variable],
    ) -> terms.Term:
        """Binds a regularizer to variables, for as long as they live.

        Args:
            name: prefix of the term's name `<name>/Regularizer/<regularizer>`, to which
                `_1`, `_2`, ... is added where a live term has that name.
            regularizer: callable, floating tensor -> scalar tensor or None.
            variables: penalized one by one and added up.

        Raises:
            TypeError: the regularizer isn't callable.
            ValueError: no variables.

        Source: `regularizer=` of `tf.compat.v1.get_variable`.
        """
        if not callable(regularizer):
            raise TypeError(
                f"regularizer must be a callable, got {regularizer!r}: "
                "write for example tfreg.l2_regularizer(1e-4)"
            )
        if not variables:
            raise ValueError(
                f"variables must hold at least one variable, got none for {name}: "
                "make the term after the variables"
            )
        name = f"{name}/Regularizer/{terms.get_name(regularizer)}"
        references = tuple(weakref.ref(v) for v in variables)
        with self._lock:
            name = _find_free(name, {term.name for term in self.get_terms()})
            term = terms.Term(name, regularizer, references)
            for variable in variables:
                variable._tfreg_terms = [*getattr(variable, "_tfreg_terms", []), term]
            self.add_owned(GraphKeys.REGULARIZATION_LOSSES, term)
        return term

    def add_owned(self, key: Hashable, item: Any) -> None:
        """Adds a term or a layer's variable to a collection, without owning it."""
        references = self._owned.setdefault(key, [])
        references.append(weakref.ref(item, references.remove))

    def _get_owned(self, key: Hashable) -> list:
        items = (ref() for ref in self._owned.get(key, []))
        return [item for item in items if item is not None]

    def get_terms(self) -> list[terms.Term]:
        """Returns the live terms in the order in which they were made."""
        return self._get_owned(GraphKeys.REGULARIZATION_LOSSES)

    # What lives for one step.

    @scopes.do_not_convert
    def add_loss(
        self,
        value: tf.Tensor,
        name: str = "loss",
        source: Any = None,
        per_example: bool = True,
    ) -> None:
        """Adds a loss to this step's regularization losses.

        Args:
            value: floating scalar.
            name: what `get_collection` filters by.
            source: the layer that adds it again at each step, if there is one.
            per_example: it is a mean over this replica's examples; otherwise it is the
                same on every replica and counts once.

        Raises:
            ValueError: outside a step, or not a scalar.
        """
        step = scopes.get_step()
        if step is None:
            raise ValueError(
                f"a loss must be added inside a step, got {name} in eager code outside "
                "one, where it would be a stale constant for ever: "
                f"{ledger.WRITE_A_STEP}; for a penalty of variables use "
                "apply_regularization or a layer's regularizer"
            )
        value = terms.apply_each(lambda v: v, [value], name)
        loss = scopes.StepLoss(
            store=self,
            name=name,
            key=_get_key(source, name),
            end=self._ledger.end,
            value=tf.identity(value),
            number=next(_numbers),
            step=step,
            per_example=per_example,
            recorded=scopes.is_recording(),
            stopped=scopes.is_stopped(),
            vector_loop=scopes.get_vector_loop(),
        )
        scopes.add_to_step(step, loss)
        self._ledger.add(loss)

    @scopes.do_not_convert
    def add_activity(
        self, name: str, compute: Callable[[], tf.Tensor | None], source: Any
    ) -> None:
        """Adds a layer's activity penalty to the step; outside one notes it as missed.

        Prediction in eager code costs nothing and raises nothing; a later `total_loss`
        that should have counted the penalty raises.

        Args:
            name: prefix of the penalty's name.
            compute: gives the penalty, already divided by the batch size, or None.
            source: the layer.
        """
        step, key = scopes.get_step(), _get_key(source, name)
        if step is None:
            self._ledger.miss(key, name, scopes.is_recording())
            return
        value = compute()
        step.keys.add((self, key))
        if value is not None:
            self.add_loss(value, name, source)

    def _visible_losses(self, scope: str | None) -> list[scopes.StepLoss]:
        return [
            loss
            for step in scopes.get_visible_steps()
            for loss in tuple(step.losses)
            if loss.store is self and ledger.matches(scope, loss.name)
        ]

    @scopes.do_not_convert
    def get_penalties(self, scope: str | None = None) -> list[terms.Penalty]:
        """Returns every regularization loss that can be read here, evaluated now.

        Args:
            scope: regular expression that a name must match at its beginning.
        """
        penalties = [
            terms.Penalty(term.name, value, per_example=False, is_term=True)
            for term in self.get_terms()
            if ledger.matches(scope, term.name) and (value := term()) is not None
        ]
        step = scopes.get_step()
        if step is not None:
            step.keys.add((self, None))  # Whoever reads them answers for them.
        for loss in self._visible_losses(scope):
            self._ledger.read(loss)
            penalties.append(terms.Penalty(loss.name, loss.value, loss.per_example))
        return penalties

    @scopes.do_not_convert
    def sum_penalties(self, scope: str | None = None) -> list[terms.Penalty]:
        """Returns what `get_penalties` does, for a total that must miss nothing.

        Raises:
            ValueError: a penalty was computed where it cannot be read, or would be
                counted twice; the message says what to write.
        """
        steps, losses = scopes.get_visible_steps(), self._visible_losses(scope)
        self._check_store(steps)
        keys = {key for step in steps for owner, key in step.keys if owner is self}
        self._ledger.check(scope, keys)
        ledger.check_losses(losses)
        number = next(_numbers)
        for loss in losses:
            loss.summed = number if loss.summed is None else loss.summed
        return self.get_penalties(scope)

    def _check_store(self, steps: Sequence[scopes.Step]) -> None:
        """Raises where a step uses what other stores penalize and nothing of ours."""
        losses = [loss for step in steps for loss in tuple(step.losses)]
        handles = scopes.get_captured()
        if any(s.store is self for s in losses) or self._is_used(handles):
            return
        read = {owner for step in steps for owner, key in step.keys if key is None}
        names = [s.name for s in losses if s.store not in read]
        if handles is not None:
            others = [s for ref in tuple(_all) if (s := ref()) and s not in read]
            for term in [term for other in others for term in other.get_terms()]:
                used = scopes.are_captured(term.variables, handles)
                names += [term.name] * used
        if names:
            raise ValueError(
                f"{names[0]} must be summed in its own store, got total_loss in "
                "another one, which has nothing in this step: call total_loss under "
                "that store's as_default(), or add what its get_collection gives"
            )

    def _is_used(self, handles: Container[int] | None) -> bool:
        """Tells whether the traces use variables of ours; in eager code: any."""
        variables = [v for term in self.get_terms() for v in term.variables]
        for key in tuple(self._owned):
            if key != GraphKeys.REGULARIZATION_LOSSES:
                variables += self._get_owned(key)
        if handles is None:
            return bool(variables)
        return scopes.are_captured(variables, handles)

    # Collections.

    @scopes.do_not_convert
    def add_to_collection(self, key: Hashable, value: Any) -> None:
        """Appends a value; see the function `add_to_collection`."""
        step = scopes.get_step()
        if key == GraphKeys.REGULARIZATION_LOSSES:
            name = ledger.get_name(value)
            self.add_loss(value, str(name or "loss"))
        elif step is not None and not _is_variable(value):
            step.values.setdefault((self, key), []).append(value)
        else:
            self._check_lasting(key, value)
            self._values.setdefault(key, []).append(value)

    def _check_lasting(self, key: Hashable, value: Any) -> None:
        if _is_losses_key(key) and _is_eager_tensor(value):
            raise ValueError(
                f"collection {key!r} must not hold an eager tensor outside a step, got "
                f"{value!r}, a constant without gradient: {ledger.WRITE_A_STEP}; for a "
                "penalty of variables use apply_regularization or a layer's regularizer"
            )

    @scopes.do_not_convert
    def get_collection(self, key: Hashable, scope: str | None = None) -> list:
        """Returns a new list of the values; see the function `get_collection`."""
        if key == GraphKeys.REGULARIZATION_LOSSES:
            return [penalty.value for penalty in self.get_penalties(scope)]
        values = self._get_owned(key) + self._values.get(key, [])
        for value in self._values.get(key, []):
            self._check_lasting(key, value)
        for step in scopes.get_visible_steps():
            values += step.values.get((self, key), [])
        if scope is None:
            return values
        return [v for v in values if ledger.matches(scope, ledger.get_name(v))]

    @scopes.do_not_convert
    def get_collection_ref(self, key: Hashable) -> list:
        """Returns the live list; see the function `get_collection_ref`."""
        if key == GraphKeys.REGULARIZATION_LOSSES:
            raise ValueError(
                f"key must not be {key!r}, got it for a live list: its terms live with "
                "their variables, so read it by get_collection and write by add_loss"
            )
        step = scopes.get_step()
        if step is None:
            return self._values.setdefault(key, [])
        return step.values.setdefault((self, key), [])

    @scopes.do_not_convert
    def clear_collection(self, key: Hashable) -> None:
        """Forgets a collection's values, those of this step too."""
        self._values.pop(key, None)
        self._owned.pop(key, None)
        if key == GraphKeys.REGULARIZATION_LOSSES:
            self._ledger.clear()
        for step in scopes.get_visible_steps():
            step.values.pop((self, key), None)
            if key == GraphKeys.REGULARIZATION_LOSSES:
                step.losses[:] = [s for s in step.losses if s.store is not self]

    @scopes.do_not_convert
    def get_all_collection_keys(self) -> list[Hashable]:
        """Returns the keys that have values, those of this step too."""
        keys = {k for table in (self._values, self._owned) for k in table if table[k]}
        for step in scopes.get_visible_steps():
            keys |= {k for (owner, k), v in step.values.items() if owner is self and v}
            if any(loss.store is self for loss in step.losses):
                keys.add(GraphKeys.REGULARIZATION_LOSSES)
        return sorted(keys, key=str)


@scopes.do_not_convert
def get_default_store() -> Store:
    """Returns the innermost store of `as_default`, else the process's one.

    A thread that entered none, as a replica's thread, uses the one that is the default
    in the others.

    Raises:
        RuntimeError: it can't be told which one this thread is to use.
    """
    own = _stores.get_own()
    if own:
        return own[-1]
    stores = {stack[-1] for stack in _stores.get_others()}
    # A replica's thread is new: it can't have used the process's store before.
    if stores and not scopes.in_replica() and _default.get_all_collection_keys():
        stores.add(_default)
    if len(stores) > 1:
        raise RuntimeError(
            "the default store must be one, got several that other threads use: enter "
            "`with store.as_default():` in this thread too"
        )
    return stores.pop() if stores else _default


_default = Store()
