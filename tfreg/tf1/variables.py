"""TF1's variables: get_variable and variable_scope on a store that outlives a call.

    def forward(x):
        with tf1.variable_scope("fc", regularizer=tf1.l2_regularizer(1e-4)):
            w = tf1.get_variable("w", [5, 3])
        return x @ w

    net = tf1.Model(forward)
    net(x)  # creates fc/w and its term
    net(x)  # reuses them

The trap: in eager code `tf.compat.v1.get_variable` creates a new variable at each call.
Each call of a `Model` is a *pass*: TF1's rules hold within it and restart in the next.
"""

import contextlib
import functools
import inspect
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg import collections, regularizers
from tfreg.collections import scopes, store, terms
from tfreg.layers import freezing
from tfreg.tf1 import initializers, variable_scopes

GraphKeys = store.GraphKeys
Initializer = variable_scopes.Initializer
Constraint = Callable[[Any], Any]  # The updated value -> the value to keep.


class VariableStore(freezing.Freezable):
    """The variables of forward functions written for TF1, by name.

    It belongs to the `tfreg.Store` that is the default when it is created.

    Args:
        name: of the module.
        seed: seed of the default initializers and of dropout; stores of the same seed
            start alike. None: another one for each store, the same in every run, see
            `tfreg.Store`.

    Source: the variables of a `tf.Graph`; the role of `tf.compat.v1.make_template`.
    """

    def __init__(self, name: str | None = None, seed: int | None = None) -> None:
        super().__init__(name)
        scopes.check_strategy()
        self.collections = store.get_default_store()
        self.seed = self.collections.seeds.take() if seed is None else seed
        self.variables_by_name: dict[str, tf.Variable] = {}
        self.metric_sums: dict[str, tf.Variable] = {}  # By scope and number.

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """The variables in the order of their creation."""
        return tuple(self.variables_by_name.values())

    @property
    def trainable_variables(self) -> tuple[tf.Variable, ...]:
        """The trainable variables in the order of their creation."""
        return tuple(v for v in self.variables if v.trainable)

    @property
    def non_trainable_variables(self) -> tuple[tf.Variable, ...]:
        """The other variables in the order of their creation."""
        return tuple(v for v in self.variables if not v.trainable)

    @contextlib.contextmanager
    def as_default(self) -> Iterator["VariableStore"]:
        """Makes the block one forward pass with these variables."""
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
        constraint: Constraint | None = None,
    ) -> tuple[tf.Variable, bool]:
        """Returns the variable of a full name, and whether it is new.

        Raises:
            ValueError: the variable or its initial value has another shape or dtype, or
                a tf.function would create the variable as it is traced again.
        """
        variable = self.variables_by_name.get(name)
        if variable is not None:
            _check_same(name, variable, shape, dtype)
            return variable, False
        # Created eagerly, and outside the current name scope.
        with tf.init_scope(), tf.name_scope(""):
            place = (self.seed, zlib.crc32(name.encode()) >> 1)
            value = initializers.compute_initial(name, shape, dtype, initializer, place)
            # The first replica's updates are kept, as with model_deploy's clones.
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA
            aggregation = tf.VariableAggregation.NONE if trainable else first
            try:
                variable = tf.Variable(
                    value,
                    trainable=trainable,
                    name=name,
                    constraint=constraint,
                    aggregation=aggregation,
                )
            except ValueError as error:
                raise _explain(error, name) from None
            # Inside init_scope: a checkpoint restored before assigns its value now.
            self.variables_by_name[name] = variable
        terms.set_trainable(variable, self.trainable)
        for key in dict.fromkeys(keys):
            self.collections.add_owned(key, variable)
        return variable, True


class Model(VariableStore):
    """A forward function written for TF1, and its variables.

    Args:
        forward: a function that calls `get_variable`, directly or through layers. The
            first call creates the variables and later ones reuse them. AutoGraph
            doesn't convert it.
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
        with contextlib.suppress(TypeError, ValueError):  # A builtin has none.
            self.__signature__ = inspect.signature(forward)

    @scopes.do_not_convert
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `forward` with the same arguments, as one forward pass."""
        with self.as_default():
            return self._forward(*args, **kwargs)


def _explain(error: ValueError, name: str) -> ValueError:
    """Returns the error of a variable that couldn't be created, or a clearer one."""
    if "singleton tf.Variables" not in str(error):
        return error
    return ValueError(
        f"{name} must be created in the first pass of a tf.function, got a new name in "
        "a later one: make the names the same in each, without a count of the process"
    )


def _check_same(
    name: str, variable: tf.Variable, shape: Sequence[int] | None, dtype: tf.DType
) -> None:
    if shape is not None and not tf.TensorShape(shape).is_compatible_with(
        variable.shape
    ):
        raise ValueError(
            f"shape of {name} must be that of the existing variable, {variable.shape}, "
            f"got {tf.TensorShape(shape)}: use another name or scope"
        )
    if variable.dtype != dtype:
        raise ValueError(
            f"dtype of {name} must be that of the existing variable, "
            f"{variable.dtype.name}, got {dtype.name}: use another name or scope"
        )


@scopes.do_not_convert
def get_variable(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    trainable: bool | None = None,
    collections: Sequence[Hashable] | None = None,
    *,
    custom_getter: Callable[..., Any] | None = None,
    constraint: Constraint | None = None,
) -> tf.Variable:
    """Returns the variable of a name, which the first forward pass creates.

    Args:
        name: of the variable, in the current scope.
        shape: known dimensions; None if the initializer is a value.
        dtype: None: the scope's, by default float32.
        initializer: TensorFlow's or Keras's or its class, a callable of nothing, or a
            value; None: the scope's, by default Glorot uniform (zeros if not floating).
        regularizer: callable, tensor -> scalar or None. It becomes the term
            `<name>/Regularizer/<regularizer>` of a new variable. None: the scope's;
            `no_regularizer`: none.
        trainable: whether the variable is trained; None: True.
        collections: keys that a new variable is added to; None: GLOBAL_VARIABLES.
        custom_getter: as for `variable_scope`; None: the scope's.
        constraint: callable, the updated value -> the value to keep, applied by the
            optimizer; None: the scope's.

    Raises:
        ValueError: the pass has the variable already, without reuse; it doesn't exist,
            with reuse=True; it has another shape or dtype; outside a forward pass.

    Source: `tf.compat.v1.get_variable`.
    """
    variable, _ = find_variable(
        name,
        shape,
        dtype,
        initializer,
        regularizer,
        trainable,
        collections,
        constraint,
        custom_getter,
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
    constraint: Constraint | None = None,
    custom_getter: Callable[..., Any] | None = None,
) -> tuple[Any, list[tf.Variable]]:
    """Returns the result of `get_variable`, and the variables that it has created.

    The arguments and the errors are those of `get_variable`.
    """
    current = variable_scopes.get_pass(f"get_variable({name!r})")
    scope = current.scope
    created: list[tf.Variable] = []
    find = functools.partial(_find, current, created)
    initializer = scope.initializer if initializer is None else initializer
    full_name = scope.join(name)
    if isinstance(shape, list | tuple):
        shape = [_convert_size(size) for size in shape]
    arguments = {
        "name": full_name,
        "shape": shape,
        "dtype": _find_dtype(full_name, dtype, scope.dtype, initializer),
        "initializer": initializer,
        "regularizer": scope.regularizer if regularizer is None else regularizer,
        "trainable": trainable is not False,
        "collections": collections,
        "constraint": scope.constraint if constraint is None else constraint,
    }
    getter = custom_getter or scope.custom_getter
    variable = getter(getter=find, **arguments) if getter else find(**arguments)
    return variable, created


def _convert_size(size: Any) -> Any:
    # TF1 took the 8.0 of 16 / 2.
    return int(size) if isinstance(size, float) and size.is_integer() else size


def _find(
    current: variable_scopes.Pass,
    created: list[tf.Variable],
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
    initializer: Initializer = None,
    regularizer: terms.Regularizer | None = None,
    reuse: Any = None,  # The scope's counts; TF1's getter has it in this place.
    trainable: bool = True,
    collections: Sequence[Hashable] | None = None,
    constraint: Constraint | None = None,
) -> tf.Variable:
    """Returns the variable of a full name, and lists it if it is new."""
    del reuse
    _check_reuse(name, current)
    current.seen.add(name)
    keys = list_keys(GraphKeys.GLOBAL_VARIABLES if collections is None else collections)
    keys += [GraphKeys.TRAINABLE_VARIABLES] * trainable
    dtype = _find_dtype(name, dtype, current.scope.dtype, initializer)
    variable, is_new = current.owner.get(
        name, shape, dtype, initializer, trainable, keys, constraint
    )
    if is_new:
        created.append(variable)
        add_regularizer(name, regularizer, variable)
    return variable


def list_keys(keys: Any) -> list[Hashable]:
    """Returns a list of keys of collections; a str is one key, None is no key."""
    return [keys] if isinstance(keys, str) else list(keys or ())


def _check_reuse(name: str, current: variable_scopes.Pass) -> None:
    reuse, exists = current.scope.reuse, name in current.owner.variables_by_name
    if not reuse and name in current.seen:
        raise ValueError(
            f"variable {name} must be created once in a forward pass, got it again "
            "without reuse: set reuse=True or reuse=tf1.AUTO_REUSE in its scope, or "
            "call the forward function through a tf1.Model"
        )
    if reuse is True and not exists:
        raise ValueError(
            f"variable {name} must exist if reuse=True, got none of this name: create "
            "it first, or set reuse=tf1.AUTO_REUSE in its scope"
        )


def _find_dtype(
    name: str, dtype: Any, default: tf.DType, initializer: Initializer
) -> tf.DType:
    if initializer is None or callable(initializer):
        return default if dtype is None else tf.as_dtype(dtype)
    initial = tf.convert_to_tensor(initializer).dtype
    if dtype is not None and initial != dtype:
        raise ValueError(
            f"dtype of {name} must be that of its initial value, {initial.name}, got "
            f"{tf.as_dtype(dtype).name}: cast the value"
        )
    return initial


def add_regularizer(
    name: str, regularizer: terms.Regularizer | None, variable: tf.Variable
) -> None:
    """Adds a term of a full name to a new variable, if there is a regularizer."""
    if regularizer not in (None, regularizers.no_regularizer):
        current = variable_scopes.get_pass(f"get_variable({name!r})")
        current.owner.collections.add_term(name, regularizer, [variable])


def trainable_variables(scope: str | None = None) -> list[tf.Variable]:
    """Returns the trainable variables of all existing models of the default store.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.trainable_variables`.
    """
    return collections.get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def global_variables(scope: str | None = None) -> list[tf.Variable]:
    """Returns all variables of all existing models of the default store.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.global_variables`.
    """
    return collections.get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[tf.Variable]:
    """Returns the variables created by layers and by `model_variable`.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.model_variables`.
    """
    return collections.get_collection(GraphKeys.MODEL_VARIABLES, scope)
