"""TF1's collections for TF2: the penalties of variables and the losses of a step.

    regularizer = tfreg.l2_regularizer(1e-4)
    tfreg.get_default_store().add_term("w", regularizer, [w])  # lives as long as w
    with tfreg.step_scope():  # eager code; in a tf.function the trace is the scope
        tfreg.add_loss(tf.reduce_mean(y**2), name="energy")  # lives for this step
        loss = tfreg.losses.total_loss(data_loss)  # of everything in the store

The trap: a penalty kept as a tensor is stale in the next step, or belongs to another
trace. A weight penalty is kept as a *term* and evaluated on each read.
"""

import contextlib
import itertools
import threading
import weakref
from collections.abc import Container, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import ownership, parts, scopes, seeds, stacks, terms

_default: "Store"
_stores: stacks.ThreadStacks["Store"] = stacks.ThreadStacks()


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


def get_name(item: Any) -> str | None:
    """Returns the name that a scope is matched with, None for an item without one."""
    # Eager tensors have no name, so `tfreg.tf1` gives them one.
    return getattr(item, "_tfreg_name", None) or getattr(item, "name", None)


class Store:
    """A set of collections; the counterpart of the collections of a TF1 `tf.Graph`.

    A layer or model created without a seed takes one from the default store. The seed
    is a hash of the store's seed, the thread's name and the number of seeds that the
    thread has taken. So it is different each time, and the same in every run of a
    program. The thread that created the store counts as nameless.
    `tf.random.set_seed` has no effect. A thread pool assigns tasks to threads in no
    fixed order: give each task a `Store(seed=i)`, or give its models a seed.

    Args:
        seed: determines these seeds. None takes a seed from the default store, so that
            models in two stores also start differently.
    """

    def __init__(self, seed: int | None = None) -> None:
        root = get_default_store().seeds.take() if seed is None else seed
        self.seeds: seeds.Seeds = seeds.Seeds(root)
        self._lock = threading.RLock()
        self._values: dict[Hashable, list] = {}
        # Weak references to terms and layers' variables, which their owners keep alive.
        self._owned: dict[Hashable, list[weakref.ref]] = {}
        self._names: weakref.WeakValueDictionary[str, Any] = (
            weakref.WeakValueDictionary()
        )

    @contextlib.contextmanager
    def as_default(self) -> Iterator["Store"]:
        """Makes this store the default inside the block."""
        with _stores.push(self):
            yield self

    # Items that live as long as their owner.

    def make_name(self, kind: str, owner: Any) -> str:
        """Returns the first of `kind`, `kind_1`, ... that no live owner has."""
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
        """Binds a regularizer to variables for their lifetime.

        A deep copy of a variable gets its own term.

        Args:
            name: prefix of the term's name `<name>/Regularizer/<regularizer>`. If a
                live term has that name, `_1`, `_2`, ... is appended.
            regularizer: callable, floating tensor -> scalar tensor or None.
            variables: the regularizer is called with each; the penalties are summed.

        Returns:
            The term.

        Raises:
            TypeError: the regularizer isn't callable.
            ValueError: `variables` is empty.

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

        def bind_copy(variable: tf.Variable) -> None:
            self.add_term(name, regularizer, [variable])

        full = f"{name}/Regularizer/{terms.get_name(regularizer)}"
        with self._lock:
            full = _find_free(full, {term.name for term in self.get_terms()})
            term = terms.bind(full, regularizer, variables, bind_copy)
            self.add_owned(GraphKeys.REGULARIZATION_LOSSES, term)
        return term

    def add_owned(self, key: Hashable, item: Any) -> None:
        """Adds a term or a layer's variable to a collection by weak reference."""
        references = self._owned.setdefault(key, [])
        references.append(weakref.ref(item, references.remove))

    def _get_owned(self, key: Hashable) -> list:
        items = [ref() for ref in self._owned.get(key, [])]
        if key == GraphKeys.TRAINABLE_VARIABLES:
            items = [item for item in items if not terms.is_frozen(item)]
        return [item for item in items if item is not None]

    def get_terms(self) -> list[terms.Term]:
        """Returns the live terms in order of creation."""
        return self._get_owned(GraphKeys.REGULARIZATION_LOSSES)

    # Items that live for one step.

    def _get_losses(self, scope: str | None) -> list[scopes.StepLoss]:
        return [
            loss
            for record in scopes.get_visible_records()
            for loss in tuple(record.losses)
            if loss.store is self and ownership.matches(scope, loss.name)
        ]

    @scopes.do_not_convert
    def get_penalties(self, scope: str | None = None) -> list[terms.Penalty]:
        """Returns all regularization losses that can be read, evaluated now.

        Args:
            scope: regular expression, matched at the beginning of each name.
        """
        penalties = [
            terms.Penalty(term.name, value, per_example=False, is_term=True)
            for term in self.get_terms()
            if ownership.matches(scope, term.name) and (value := term()) is not None
        ]
        return penalties + ownership.read(self._get_losses(scope))

    @scopes.do_not_convert
    def sum_penalties(self, scope: str | None = None) -> list[terms.Penalty]:
        """Returns the values of `get_penalties`, checked for use in a total.

        Args:
            scope: regular expression, matched at the beginning of each name.

        Raises:
            ValueError: a penalty can't be read, or would be counted twice; the message
                says what to write.
        """
        ownership.check_hidden(lambda loss: loss.store is self, scope)
        ownership.check_outside(lambda owner, store: store is self, scope)
        ownership.count(self._get_losses(scope), id(self))
        return self.get_penalties(scope)

    # Collections.

    @scopes.do_not_convert
    def add_to_collection(self, key: Hashable, value: Any) -> None:
        """Appends a value; see the function `add_to_collection`."""
        record = scopes.get_record()
        if key == GraphKeys.REGULARIZATION_LOSSES:
            name = str(get_name(value) or "loss")
            ownership.add_loss(value, name, parts.find_owner(), self)
        elif record is not None and not _is_variable(value):
            record.values.setdefault((self, key), []).append(value)
        else:
            self._check_lasting(key, value)
            self._values.setdefault(key, []).append(value)

    def _check_lasting(self, key: Hashable, value: Any) -> None:
        if _is_losses_key(key) and _is_eager_tensor(value):
            raise ValueError(
                f"collection {key!r} must not hold an eager tensor outside a step, got "
                f"{value!r}, a constant without gradient: {ownership.ADVICE}; for a "
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
        for record in scopes.get_visible_records():
            record.read.add((self, key))
            values += record.values.get((self, key), [])
        if scope is None:
            return values
        return [v for v in values if ownership.matches(scope, get_name(v))]

    @scopes.do_not_convert
    def get_collection_ref(self, key: Hashable) -> list:
        """Returns the live list; see the function `get_collection_ref`."""
        if key == GraphKeys.REGULARIZATION_LOSSES:
            raise ValueError(
                f"key must not be {key!r}, got it for a live list: its terms live with "
                "their variables, so read it by get_collection and write by add_loss"
            )
        record = scopes.get_record()
        if record is None:
            return self._values.setdefault(key, [])
        return record.values.setdefault((self, key), [])

    @scopes.do_not_convert
    def clear_collection(self, key: Hashable) -> None:
        """Removes a collection's values, including those of this step."""
        self._values.pop(key, None)
        self._owned.pop(key, None)
        if key == GraphKeys.REGULARIZATION_LOSSES:
            ownership.forget_outside(self)
        for record in scopes.get_visible_records():
            record.values.pop((self, key), None)
            if key == GraphKeys.REGULARIZATION_LOSSES:
                record.losses[:] = [s for s in record.losses if s.store is not self]

    @scopes.do_not_convert
    def get_all_collection_keys(self) -> list[Hashable]:
        """Returns the keys that have values, including those of this step."""
        keys = {k for table in (self._values, self._owned) for k in table if table[k]}
        for record in scopes.get_visible_records():
            values = record.values.items()
            keys |= {k for (store, k), v in values if store is self and v}
            if any(loss.store is self for loss in record.losses):
                keys.add(GraphKeys.REGULARIZATION_LOSSES)
        return sorted(keys, key=str)


@scopes.do_not_convert
def get_default_store() -> Store:
    """Returns the innermost store of `as_default` in this thread, else the global one.

    The thread of a replica uses the store of the thread that called `strategy.run`.

    Raises:
        RuntimeError: the calling thread of a replica is ambiguous, and the candidates
            have different stores.
    """
    own = _stores.get()
    if own:
        return own[-1]
    stores = {stack[-1] for stack in _stores.get_callers()}
    if len(stores) > 1:
        raise RuntimeError(
            f"a replica must have one default store, got {len(stores)} that other "
            "threads use: enter `with store.as_default():` in the replica function"
        )
    return stores.pop() if stores else _default


_default = Store(seed=0)
