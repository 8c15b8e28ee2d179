"""TF1's variables: get_variable and variable_scope on a store that outlives the calls.

    def forward(x):
        with tf1.variable_scope("fc", regularizer=tf1.l2_regularizer(1e-4)):
            w = tf1.get_variable("w", [5, 3])
        return x @ w

    net = tf1.Model(forward)
    net(x)  # makes fc/w and its term
    net(x)  # finds it

The trap: eager `tf.compat.v1.get_variable` makes a new variable at each call. Here each
call of a `Model` is a *pass*: within it TF1's rules hold, in the next they begin anew.
"""

import contextlib
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg import collections, regularizers
from tfreg.collections import scopes, store, terms
from tfreg.layers import freezing
from tfreg.tf1 import arg_scopes, initializers, variable_scopes

GraphKeys = store.GraphKeys
Initializer = variable_scopes.Initializer


class VariableStore(freezing.Freezable):
    """The variables of forward functions written as in TF1, by name.

    It belongs to the `tfreg.Store` that was the default when it was made.

    Args:
        name: of the module.
        seed: what default initializers and dropout come from; stores of one seed start
            alike. None: another one for each, alike in every run, see `tfreg.Store`.

    Source: what a `tf.Graph` held; the role of `tf.compat.v1.make_template`.
    """

    def __init__(self, name: str | None = None, seed: int | None = None) -> None:
        super().__init__(name)
        scopes.check_strategy()
        self.collections = store.get_default_store()
        self.seed = self.collections.seeds.take() if seed is None else seed
        self.variables_by_name: dict[str, tf.Variable] = {}

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """The variables in the order in which they were made."""
        return tuple(self.variables_by_name.values())

    @property
    def trainable_variables(self) -> tuple[tf.Variable, ...]:
        """Those that are trained, in the order in which they were made."""
        return tuple(v for v in self.variables if v.trainable)

    @property
    def non_trainable_variables(self) -> tuple[tf.Variable, ...]:
        """Those that aren't, in the order in which they were made."""
        return tuple(v for v in self.variables if not v.trainable)

    @contextlib.contextmanager
    def as_default(self) -> Iterator["VariableStore"]:
        """Makes the block one forward pass, whose variables are these."""
        with variable_scopes.forward_pass(self):
            yield self

    def get(
        self,
        name: str,
        shape: Sequence[int] | None,
        dtype: tf.DType,
        initializer: Initializer,
        trainable: bool,
        keys: Sequence[Hashable],
    ) -> tuple[tf.Variable, bool]:
        """Returns the variable of a full name, and whether it was made now.

        Raises:
            ValueError: it has another shape or dtype, or its initial value has.
        """
        variable = self.variables_by_name.get(name)
        if variable is not None:
            _check_same(name, variable, shape, dtype)
            return variable, False
        # Made eagerly, and without the name scope that it is asked for in.
        with tf.init_scope(), tf.name_scope(""):
            place = (self.seed, zlib.crc32(name.encode()) >> 1)
            value = _compute_initial(name, shape, dtype, initializer, place)
            # As with model_deploy's clones the first replica's updates are kept.
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA
            aggregation = tf.VariableAggregation.NONE if trainable else first
            variable = tf.Variable(
                value, trainable=trainable, name=name, aggregation=aggregation
            )
            # In here: a restored checkpoint assigns its value now.
            self.variables_by_name[name] = variable
        terms.set_trainable(variable, self.trainable)
        for key in dict.fromkeys(keys):
            self.collections.add_owned(key, variable)
        return variable, True


class Model(VariableStore):
    """A forward function written as in TF1, and its variables.

    Args:
        forward: a function that calls `get_variable`, or what calls it. The first call
            makes the variables and later ones find them. AutoGraph leaves it alone.
        name: of the module.
        seed: as for `VariableStore`.

    Source: `tf.compat.v1.make_template`, without a scope of its own.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(name, seed)
        self._forward = forward

    @scopes.do_not_convert
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what `forward` does with the same arguments, as one forward pass."""
        with self.as_default():
            return self._forward(*args, **kwargs)


def _check_same(
    name: str, variable: tf.Variable, shape: Sequence[int] | None, dtype: tf.DType
) -> None:
    if shape is not None and not tf.TensorShape(shape).is_compatible_with(
        variable.shape
    ):
        raise ValueError(
            f"shape of {name} must be that of the variable there is, {variable.shape}, "
            f"got {tf.TensorShape(shape)}: use another name or scope"
        )
    if variable.dtype != dtype:
        raise ValueError(
            f"dtype of {name} must be that of the variable there is, "
            f"{variable.dtype.name}, got {dtype.name}: use another name or scope"
        )


def _compute_initial(
    name: str,
    shape: Sequence[int] | None,
    dtype: tf.DType,
    initializer: Initializer,
    place: initializers.Seed,
) -> tf.Tensor:
    if isinstance(initializer, type):
        initializer = initializer()
    if initializer is None:
        default = initializers.xavier_initializer()
        initializer = default if dtype.is_floating else tf.zeros_initializer()
    if not callable(initializer):
        if shape is not None:
            raise ValueError(
                f"shape of {name} must be left out where its initializer is a value, "
                f"got {shape!r}: leave it out, or use tf.constant_initializer"
            )
        return tf.convert_to_tensor(_evaluate(name, initializer))
    if shape is None:
        return tf.convert_to_tensor(_call_without_shape(name, initializer))
    sizes = tf.TensorShape(shape)
    if not sizes.is_fully_defined():
        raise ValueError(
            f"shape of {name} must be known, got {sizes}: give all dimensions"
        )
    if isinstance(initializer, initializers.VarianceScaling):
        value = initializer(sizes.as_list(), dtype, place)
    else:
        value = initializer(sizes.as_list(), dtype=dtype)
    return tf.ensure_shape(tf.cast(value, dtype), sizes)


def _evaluate(name: str, value: Any) -> Any:
    """Returns a value that holds outside of the trace that it was made in."""
    if not tf.is_tensor(value) or hasattr(value, "numpy"):
        return value
    known = tf.get_static_value(value)
    if known is None:
        raise ValueError(
            f"initializer of {name} must be known when the variable is made, got "
            f"{value!r} of a trace: pass a function that computes it, or call the "
            "model once in eager code"
        )
    return known


def _call_without_shape(name: str, initializer: Callable[..., Any]) -> Any:
    try:
        return initializer()
    except TypeError as error:
        raise ValueError(
            f"shape of {name} must be given, got None with {initializer!r}, which "
            "takes a shape: pass the shape"
        ) from error


@scopes.do_not_convert
def get_variable(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    trainable: bool | None = None,
    collections: Sequence[Hashable] | None = None,
) -> tf.Variable:
    """Returns the variable of this name in the scope, made in the first forward pass.

    Args:
        name: its last part; the scope's name comes before.
        shape: known dimensions; None with an initializer that is a value.
        dtype: None: the scope's, float32 by default.
        initializer: callable (shape, dtype=...) of TensorFlow or Keras or its class,
            callable of nothing, or a value; None: the scope's, else Glorot's uniform
            one, zeros for what isn't floating.
        regularizer: callable, tensor -> scalar or None; it becomes the term
            `<name>/Regularizer/<regularizer>` when the variable is made. None: the
            scope's; `no_regularizer`: none.
        trainable: False: optimizers leave it as it is.
        collections: keys of those it joins when it is made; None: GLOBAL_VARIABLES.

    Raises:
        ValueError: without reuse, the pass has it already; with reuse=True, there is no
            such variable; it has another shape or dtype; outside a forward pass.

    Source: `tf.compat.v1.get_variable`.
    """
    variable, _ = find_variable(
        name, shape, dtype, initializer, regularizer, trainable, collections
    )
    return variable


def find_variable(
    name: str,
    shape: Sequence[int] | None,
    dtype: Any,
    initializer: Initializer,
    regularizer: terms.Regularizer | None,
    trainable: bool | None,
    collections: Sequence[Hashable] | None,
) -> tuple[tf.Variable, bool]:
    """Returns what `get_variable` does, and whether the variable was made now.

    Args, Raises: as for `get_variable`.
    """
    here = variable_scopes.get_pass(f"get_variable({name!r})")
    scope, owner = here.scope, here.owner
    full, trainable = scope.join(name), trainable is not False
    _check_reuse(full, scope.reuse, full in here.seen, full in owner.variables_by_name)
    here.seen.add(full)
    default = [GraphKeys.GLOBAL_VARIABLES]
    keys = list_keys(default if collections is None else collections)
    keys += [GraphKeys.TRAINABLE_VARIABLES] * trainable
    initializer = scope.initializer if initializer is None else initializer
    dtype = _find_dtype(full, dtype, scope.dtype, initializer)
    variable, made = owner.get(full, shape, dtype, initializer, trainable, keys)
    regularizer = scope.regularizer if regularizer is None else regularizer
    if made and regularizer is not None:
        add_regularizer(name, regularizer, variable)
    return variable, made


def list_keys(keys: Any) -> list[Hashable]:
    """Returns a list of collections' keys; a str is one key, None is no key."""
    return [keys] if isinstance(keys, str) else list(keys or ())


def _check_reuse(name: str, reuse: Any, is_seen: bool, exists: bool) -> None:
    if not reuse and is_seen:
        raise ValueError(
            f"variable {name} must be made once in a forward pass, got it again "
            "without reuse: set reuse=True or reuse=tf1.AUTO_REUSE in its scope, or "
            "make each call of the forward function one of a tf1.Model"
        )
    if reuse is True and not exists:
        raise ValueError(
            f"variable {name} must exist where reuse=True, got none of this name: make "
            "it first, or set reuse=tf1.AUTO_REUSE in its scope"
        )


def _find_dtype(
    name: str, dtype: Any, default: tf.DType, initializer: Initializer
) -> tf.DType:
    if initializer is None or callable(initializer):
        return default if dtype is None else tf.as_dtype(dtype)
    found = tf.convert_to_tensor(initializer).dtype
    if dtype is not None and found != dtype:
        raise ValueError(
            f"dtype of {name} must be that of its initial value, {found.name}, got "
            f"{tf.as_dtype(dtype).name}: cast the value"
        )
    return found


def add_regularizer(
    name: str, regularizer: terms.Regularizer, variable: tf.Variable
) -> None:
    """Adds a term to a variable that was made now, under a name in the scope."""
    if regularizer is not regularizers.no_regularizer:
        here = variable_scopes.get_pass(f"get_variable({name!r})")
        full = here.scope.join(name)
        here.owner.collections.add_term(full, regularizer, [variable])


def trainable_variables(scope: str | None = None) -> list[tf.Variable]:
    """Returns the trainable variables of all living models of the default store.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.trainable_variables`.
    """
    return collections.get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def global_variables(scope: str | None = None) -> list[tf.Variable]:
    """Returns all variables of all living models of the default store.

    Source: `tf.compat.v1.global_variables`.
    """
    return collections.get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[tf.Variable]:
    """Returns the variables of layers and `model_variable`.

    Source: `tf.compat.v1.model_variables`.
    """
    return collections.get_collection(GraphKeys.MODEL_VARIABLES, scope)


def get_or_create_global_step() -> tf.Variable:
    """Returns the default store's number of updates, an int64 scalar.

    Source: `tf.compat.v1.train.get_or_create_global_step`.
    """
    found = collections.get_collection(GraphKeys.GLOBAL_STEP)
    if found:
        return found[0]
    with tf.init_scope(), tf.name_scope(""):
        step = tf.Variable(
            tf.zeros([], tf.int64),
            trainable=False,
            name="global_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
    for key in (GraphKeys.GLOBAL_STEP, GraphKeys.GLOBAL_VARIABLES):
        collections.add_to_collection(key, step)
    return step


@arg_scopes.add_arg_scope
def variable(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    trainable: bool = True,
    collections: Sequence[Hashable] | None = None,
) -> tf.Variable:
    """Returns `get_variable` of the same arguments, which an arg_scope may give.

    Source: `tf.contrib.framework.variable`.
    """
    return get_variable(
        name, shape, dtype, initializer, regularizer, trainable, collections
    )


@arg_scopes.add_arg_scope
def model_variable(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = tf.float32,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    trainable: bool = True,
    collections: Sequence[Hashable] | None = None,
) -> tf.Variable:
    """Returns `variable` of the same arguments, which is in MODEL_VARIABLES too.

    Source: `tf.contrib.framework.model_variable`.
    """
    keys = [*(collections or ()), GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES]
    return variable(name, shape, dtype, initializer, regularizer, trainable, keys)
