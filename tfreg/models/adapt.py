"""One record for any model: how to call it, its variables, names, state and losses.

    adapted = adapt(model)  # of tfreg, Keras or Sonnet, a tf.Module, or a mixture
    adapted.build(x)
    with tf.GradientTape() as tape, adapted.step(None) as state:
        outputs = adapted(x, training=True)
    adapted.names[id(adapted.trainable_variables[0])]  # dense_0/kernel

The trap: a Keras layer in a tf.Module, whose variables the module doesn't list: they
are never trained, and nothing says so.
"""

import contextlib
import functools
import inspect
import itertools
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import ownership, parts, scopes, terms
from tfreg.layers import base

# The argument that says whether a pass is for training, in the order of trying.
_ARGUMENTS = ("training", "is_training", "")
_FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    functools.partial,
    tf.types.experimental.PolymorphicFunction,
)
# Whose `trainable_variables` omit the parts of other libraries.
_LIBRARIES = ("keras", "sonnet", "tensorflow", "tfreg")


def adapt(model: Any) -> "Adapted":
    """Returns one record for a model of any library.

    Args:
        model: a callable object that holds its variables: a tf.Module, a Keras layer or
            model, a Sonnet module, `tf1.Model`, any object whose attributes do, or a
            mixture of these.

    Raises:
        TypeError: the model is a function, a class or a list, isn't callable, or holds
            nothing that could have variables.
    """
    return model if isinstance(model, Adapted) else Adapted(model)


class State:
    """What the layers of one step have assigned.

    Args:
        read: returns the variables and their new values.
    """

    def __init__(self, read: Callable[[], list] | None = None) -> None:
        self._read = read

    def get_updates(self) -> list[tuple[tf.Variable, tf.Tensor]]:
        """Returns Keras's statistics as pairs of a variable and its new value.

        States of random numbers are not among them: they never change. The variables of
        other libraries are assigned in the forward pass.

        Raises:
            ValueError: a value was computed in a branch or loop.
        """
        return [] if self._read is None else self._read()


class Adapted:
    """A model as `adapt` returns it.

    Attributes:
        model: the model.
        is_plain: whether it has no parts of Keras.

    Args:
        model: as for `adapt`.

    Raises:
        TypeError: as for `adapt`.
    """

    def __init__(self, model: Any) -> None:
        is_function = isinstance(model, _FUNCTIONS)
        if is_function or isinstance(model, type | list | tuple | dict):
            kind = "function" if is_function else type(model).__name__
            raise TypeError(
                f"model must be an object that holds its variables, got a {kind}: pass "
                "a tf.Module, a Keras model or another object whose __call__ uses it"
            )
        if not callable(model):
            raise TypeError(
                f"model must be callable, got a {type(model).__name__}: give it a "
                "__call__(x, training) that returns the outputs"
            )
        parts.name_parts(model)
        self.model = model
        self._passes: str | None = None  # Found out by a call.
        self._note_plain()

    @scopes.do_not_convert
    def build(self, x: Any) -> None:
        """Creates what can't be created in a trace, by an eager call if need be.

        Keras's layers create their variables in this call. Where the signature doesn't
        say how the model takes `training`, the call finds it out. Other models aren't
        called.

        Args:
            x: inputs of one batch, or of a few examples.
        """
        keras = [p for p in parts.list_parts(self.model) if parts.is_keras(p)]
        if len(self._list_arguments()) > 1 or not all(p.built for p in keras):
            self(x, training=False)
        self._note_plain()

    def _note_plain(self) -> None:
        # Walked once here, not in every eager step of a model without Keras.
        listed = parts.list_parts(self.model)
        self.is_plain = not (
            any(map(parts.is_keras, listed)) or parts.list_keras_variables(listed)
        )

    @scopes.do_not_convert
    def __call__(self, x: Any, training: bool = False) -> Any:
        """Returns the outputs of inputs, which are passed as the first argument.

        Args:
            x: tensor or nest of tensors.
            training: passed as `training` or `is_training`, or left out, as the model
                takes it.

        Raises:
            TypeError: the model takes `training` in no way that is known.
        """
        names = self._list_arguments()
        if len(names) > 1:
            return self._try(names, x, training)
        given = {names[0]: training} if names[0] else {}
        return scopes.convert(self.model)(x, **given)

    def _try(self, names: Sequence[str], x: Any, training: bool) -> Any:
        """Calls the model, and remembers the first of the names that it takes."""
        for name in names[:-1]:
            try:
                outputs = self.model(x, **{name: training})
            except (TypeError, ValueError) as error:
                if not re.search(rf"\b{name}\b", str(error)):
                    raise
            else:
                self._passes = name
                return outputs
        outputs = self.model(x)
        self._passes = names[-1]
        return outputs

    def _list_arguments(self) -> Sequence[str]:
        """Returns the names to pass `training` by, the likeliest first; "": not."""
        if self._passes is not None:
            return [self._passes]
        if parts.is_keras(self.model):
            return ["training"]  # Keras drops it where `call` doesn't take it.
        try:
            signature = inspect.signature(self.model)
        except (TypeError, ValueError):
            return _ARGUMENTS
        known = signature.parameters
        for name in _ARGUMENTS[:2]:
            if name in known:
                needed = known[name].default is inspect.Parameter.empty
                return [name] if needed or name == "training" else [name, ""]
        takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
        return _ARGUMENTS if takes_any else [""]

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The variables to train: the model's own first, then those it doesn't list."""
        return self.list_variables(trainable=True)

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables, with statistics and the states of random numbers."""
        return self.list_variables(trainable=False)

    def list_variables(
        self, trainable: bool, listed: Sequence[Any] | None = None
    ) -> list[tf.Variable]:
        """Returns all variables, or those to train.

        Args:
            trainable: whether to return only those that are trained.
            listed: `parts.list_parts` of the model; None: walks once more.
        """
        name = "trainable_variables" if trainable else "variables"
        own = list(map(parts.unwrap, parts.get_listed(self.model, name)))
        if not _is_inherited(self.model, name):
            return own
        listed = parts.list_parts(self.model) if listed is None else listed
        keras = parts.list_keras_variables(listed, trainable)
        others = list(map(parts.unwrap, keras))
        if not isinstance(self.model, tf.Module) or any(map(parts.is_keras, listed)):
            others += [
                part
                for part in listed
                if isinstance(part, tf.Variable) and (part.trainable or not trainable)
            ]
        return list({id(v): v for v in [*own, *others]}.values())

    @property
    def names(self) -> dict[int, str]:
        """The path of each variable by its id, for example `dense_0/kernel`.

        It is Keras's `path`, in layers of tfreg the layer's name and the attribute's,
        and the attributes' path in other modules. No two are equal.
        """
        named = parts.name_parts(self.model)
        known: dict[int, str] = {}
        places: dict[int, str] = {}
        for path, part in named:
            if isinstance(part, base.Layer):
                for attribute, value in vars(part).items():
                    if isinstance(value, tf.Variable):
                        known.setdefault(id(value), f"{part.name}/{attribute}")
            if terms.is_variable(part):
                places.setdefault(id(parts.unwrap(part)), path)
        listed = list({id(part): part for _, part in named}.values())
        for variable in parts.list_keras_variables(listed):
            known.setdefault(id(parts.unwrap(variable)), variable.path)
        names: dict[int, str] = {}
        taken: set[str] = set()
        for variable in self.list_variables(False, listed):
            key = id(variable)
            place = places.get(key, variable.name.partition(":")[0])
            more = (f"{place}_{i}" for i in itertools.count(1))
            options = itertools.chain([known.get(key, place), place], more)
            names[key] = next(option for option in options if option not in taken)
            taken.add(names[key])
        return names

    def by_path(self, variables: Iterable[tf.Variable]) -> dict[str, tf.Variable]:
        """Returns variables of the model by their paths, after one walk through it."""
        names = self.names
        return {names[id(variable)]: variable for variable in variables}

    @property
    def constraints(self) -> list[tuple[tf.Variable, Callable]]:
        """The trained variables with a constraint, and the constraint of each."""
        listed = parts.list_parts(self.model)
        keras = parts.list_keras_variables(listed, trainable=True)
        of_keras = {id(parts.unwrap(v)): v.constraint for v in keras}
        pairs = [
            (v, of_keras.get(id(v), getattr(v, "constraint", None)))
            for v in self.list_variables(True, listed)
        ]
        return [(v, constraint) for v, constraint in pairs if constraint is not None]

    @property
    def checkpoint(self) -> tf.Module:
        """What a tf.train.Checkpoint saves and restores all variables by.

        It is the model itself where TensorFlow finds all variables in it. If not, a
        tf.Module has the others by their positions: Keras's own paths depend on which
        layers the process has created before. Read it after `build`.
        """
        seen: set[int] = set()
        is_keras = parts.is_keras(self.model)
        if not is_keras and isinstance(self.model, tf.Module):
            found = tf.train.TrackableView(self.model).descendants()
            seen = {id(parts.unwrap(each)) for each in found}
        others = {
            f"{i}_{variable.name.partition(':')[0].rpartition('/')[2]}": variable
            for i, variable in enumerate(self.variables)
            if id(variable) not in seen
        }
        if not others and seen:
            return self.model
        saved = tf.Module()
        if seen:
            saved.model = self.model
        saved.others = others
        return saved

    @property
    def dtype_policy(self) -> str | None:
        """The dtype that Keras's layers compute in, None for a model without any.

        If they differ, it is the one that isn't float32.
        """
        layers = [p for p in parts.list_parts(self.model) if parts.is_keras(p)]
        trained = [layer for layer in layers if layer.variables] or layers
        dtypes = list(dict.fromkeys(str(layer.compute_dtype) for layer in trained))
        return next(
            (d for d in dtypes if d != "float32"), dtypes[0] if dtypes else None
        )

    @contextlib.contextmanager
    def step(self, key: tf.Tensor | None) -> Iterator[State]:
        """Contains the forward passes and the loss of one step, on one replica.

        In it, Keras's layers read their variables as tensors, hand their losses to the
        step, and assign nothing, and `total_loss` counts all their penalties. Open the
        tape before.

        Args:
            key: uint32 `[2]`, what the random numbers of Keras's layers are derived
                from: another one for each step and replica. None: for evaluation.

        Raises:
            ValueError: a Keras layer creates variables in the step: call `build`.
        """
        before = [] if self.is_plain else self._list_keras()
        if self.is_plain:
            yield State()
        else:
            from tfreg.models import stateless

            keras = ownership.counting_keras()
            with keras, stateless.Scope(before, key) as scope:
                yield State(scope.get_updates)
        self._check_built(before)

    def _list_keras(self) -> list[Any]:
        return parts.list_keras_variables(parts.list_parts(self.model))

    def _check_built(self, before: Sequence[Any]) -> None:
        known = {id(variable) for variable in before}
        new = [v for v in self._list_keras() if id(v) not in known]
        if new:
            raise ValueError(
                f"{new[0].path} must exist before the step, got a Keras layer that "
                "creates it in the step: call build(x) of the adapted model first, "
                "with a few examples"
            )

    def find_unowned(
        self, watched: Iterable[tf.Variable], frozen: Sequence[Any] = ()
    ) -> list[str]:
        """Returns the names of watched variables that nobody trains or has frozen.

        Args:
            watched: of `tape.watched_variables()`.
            frozen: modules that take part in the step without being trained.
        """
        held = [*self.variables]
        for module in frozen:
            listed = parts.list_parts(module)
            held += parts.list_keras_variables(listed)
            held += [part for part in listed if terms.is_variable(part)]
        owned: set[int] = set()
        for variable in map(parts.unwrap, held):
            # A tape in a replica watches the copy of the replica.
            copies = getattr(variable, "values", ())
            owned |= {id(variable), *map(id, copies)}
        return [v.name.partition(":")[0] for v in watched if id(v) not in owned]

    def check_watched(
        self, watched: Iterable[tf.Variable], frozen: Sequence[Any] = ()
    ) -> None:
        """Checks that each variable of a step is the model's, or frozen.

        Args:
            watched: as for `find_unowned`.
            frozen: as for `find_unowned`.

        Raises:
            ValueError: the step reads a variable that wouldn't be trained, or the model
                has none to train.
        """
        if not self.trainable_variables:
            raise ValueError(
                f"model must have variables to train, got {self.model!r:.80} with "
                "none: pass the object that holds them"
            )
        names = self.find_unowned(watched, frozen)
        if names:
            raise ValueError(
                "the variables of a step must be in the model, got others, which would "
                f"never be trained: {', '.join(names)}: put what holds them into an "
                "attribute of the model, create them with trainable=False, or pass "
                "frozen=[what holds them]"
            )


def _is_inherited(model: Any, name: str) -> bool:
    """Returns whether a list of variables is the library's, not one of the user's."""
    if name in getattr(model, "__dict__", {}):
        return False
    owner = next((c for c in type(model).__mro__ if name in vars(c)), None)
    return owner is None or owner.__module__.partition(".")[0] in _LIBRARIES
