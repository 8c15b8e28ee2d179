"""The base class of layers: stable names, variables and their penalties.

    class Scale(base.Layer):
        parameters = {"gamma": "kernel"}  # variable -> target of its regularizer

        def __call__(self, inputs, training=False):
            shape = [inputs.shape[-1]]
            gamma = self.get_variable("gamma", shape, initializers.ones)
            return self.penalize_activity(inputs * gamma)

The trap: a weight penalty added in each call of a layer counts a shared layer twice.
tfreg creates one term, together with the variable.
"""

import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks, regularizers
from tfreg.collections import ownership, scopes, store, terms
from tfreg.layers import foreign, freezing, initializers

Regularizer = terms.Regularizer

_COLLECTIONS = {"kernel": store.GraphKeys.WEIGHTS, "bias": store.GraphKeys.BIASES}

# If several threads make a layer's first call, they get the same variable and terms.
_publishing = threading.RLock()


def regularizer_property(target: str) -> property:
    """Returns a property of a `Layer`: the first regularizer of a target, or None."""

    def read(self: "Layer") -> Regularizer | None:
        return next(iter(self.get_regularizers(target)), None)

    return property(read, doc=f"The first regularizer of {target}, or None.")


def refuse_attribute(owner: Any, name: str, value: Any, call: str) -> None:
    """Raises for a regularizer set as an attribute, which would penalize nothing.

    Raises:
        AttributeError: always.
    """
    raise AttributeError(
        f"{name} must be given when a {type(owner).__name__} is made, got {value!r} "
        f"set later: call {call}"
    )


class Layer(freezing.Freezable):
    """A tf.Module with named variables, and regularizers for them and the outputs.

    A layer belongs to the default store at the time of its creation.

    Args:
        name: first part of the variables' names; None: derived from the class and the
            store, or from the position in a `Sequential`.
        seed: int from 0 to 2**31 - 1. It determines the initial values, together with
            the names of the variable and the layer; for a layer named by the store,
            with its kind. Layers of the same seed and name start with the same values.
            None: different for each layer and the same in every run, see `tfreg.Store`.
        regularizers: target -> regularizer or None.

    Attributes:
        parameters: variable's name -> target of the regularizers that penalize it.
        has_activity: whether the outputs can be penalized.

    Raises:
        ValueError: the seed or the name isn't allowed, or a target doesn't exist.
        TypeError: a regularizer isn't callable.
    """

    parameters: Mapping[str, str] = {}
    has_activity = True

    def __init__(
        self,
        name: str | None = None,
        seed: int | None = None,
        regularizers: Mapping[str, Regularizer | None] | None = None,
    ) -> None:
        super().__init__()
        if name is not None and not (isinstance(name, str) and name):
            raise ValueError(
                f"name must be a str that isn't empty, got {name!r}: leave it out for "
                "a name of the layer's kind"
            )
        scopes.check_strategy()
        self.store = store.get_default_store()
        seed = self.store.seeds.take() if seed is None else seed
        self.seed = _checks.check_int("seed", seed, 0, 2**31 - 1)
        self._label: str | None = None
        self._is_numbered = False  # Its name depends on the layers called before it.
        self._is_placed = False  # Its name is its position in a Sequential.
        if name is not None:
            self._set_label(name)
        # Tuples: a tf.Module would track a list or dict for its checkpoints.
        self._regularizers: tuple[tuple[str, Regularizer], ...] = ()
        for target, regularizer in (regularizers or {}).items():
            if regularizer is not None:
                self.regularize(target, regularizer)

    kernel_regularizer = regularizer_property("kernel")
    bias_regularizer = regularizer_property("bias")
    activity_regularizer = regularizer_property("activity")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.endswith("_regularizer"):
            target = name.removesuffix("_regularizer")
            aim = repr(target) if target in self.targets else f"one of {self.targets}"
            refuse_attribute(self, name, value, f"layer.regularize({aim}, regularizer)")
        current = getattr(self, name, None) if name in self.parameters else None
        if current is not None and value is not current:
            # The terms would still penalize the old variable.
            raise AttributeError(
                f"{name} of {self.name} must stay the variable that was made, got "
                f"another {type(value).__name__}: write layer.{name}.assign(value)"
            )
        super().__setattr__(name, value)

    def _set_label(self, label: str) -> None:
        self._label = label
        # Reserves the name: unnamed layers of this store get other names.
        self.store.make_name(label, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """Name of the layer, the first part of its variables' names."""
        if self._label is None:
            self._label = self.store.make_name(self.kind, self)
            self._is_numbered = True
        return self._label

    @property
    def place(self) -> str:
        """The name without a number that depends on the layers called before."""
        numbered = self._label is None or self._is_numbered
        return self.kind if numbered else self.name

    @property
    def kind(self) -> str:
        """The class name in snake case, the base of default names."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def targets(self) -> list[str]:
        """The targets of regularizers; for a Dense: kernel, bias and activity."""
        targets = list(dict.fromkeys(self.parameters.values()))
        return targets + ["activity"] * self.has_activity

    def get_regularizers(self, target: str) -> list[Regularizer]:
        """Returns the regularizers of one of the `targets`."""
        return [r for t, r in self._regularizers if t == target]

    def regularize(self, target: str, regularizer: Regularizer) -> None:
        """Adds a regularizer, before or after the creation of the variables.

        It has no effect in a tf.function that is traced already.

        Args:
            target: one of `targets`.
            regularizer: callable, tensor -> scalar tensor or None; or `l1` or `l2`, at
                1e-4.

        Raises:
            ValueError: the layer has no such target.
            TypeError: the regularizer isn't callable.
        """
        if target not in self.targets:
            raise ValueError(
                f"target must be one of {self.targets} for a {type(self).__name__}, "
                f"got {target!r}: regularize another layer"
            )
        if isinstance(regularizer, str):
            regularizer = regularizers.NAMED.get(regularizer, regularizer)
        example = "tfreg.l2_regularizer(1e-4)"
        _checks.check_function(f"{target}_regularizer", regularizer, example)
        if regularizer is regularizers.no_regularizer:
            return
        self._regularizers = (*self._regularizers, (target, regularizer))
        for name, aim in self.parameters.items():
            if aim == target and getattr(self, name, None) is not None:
                self._add_term(name, regularizer)

    def _add_term(self, name: str, regularizer: Regularizer) -> None:
        path = f"{self.name}/{name}"
        self.store.add_term(path, regularizer, [getattr(self, name)])

    @scopes.do_not_convert
    def get_variable(
        self,
        name: str,
        shape: Sequence[int | None],
        initializer: initializers.Initializer,
        trainable: bool = True,
        dtype: tf.DType | None = None,
    ) -> tf.Variable:
        """Returns a variable, created with its terms in the first call.

        Args:
            name: name of the attribute, and last part of the variable's name.
            shape: shape without unknown dimensions.
            initializer: called with the shape and the variable's seed.
            trainable: whether optimizers change the variable.
            dtype: dtype of the inputs. float64 gives a float64 variable; None and other
                dtypes give one of the initializer's dtype.

        Raises:
            ValueError: a dimension is unknown or 0, or differs from that of the first
                call; or the initializer's values have another shape.
            TypeError: the values of a trainable variable aren't floating, or a Keras
                layer calls this layer.
        """
        path, sizes = f"{self.name}/{name}", tf.TensorShape(shape)
        variable = getattr(self, name, None)
        if variable is not None:
            if not sizes.is_compatible_with(variable.shape):
                raise ValueError(
                    f"{path} must have the shape {variable.shape} of the first call, "
                    f"got inputs for {sizes}: make another layer for them"
                )
            return variable
        foreign.check_caller(self.name)
        # Created eagerly: a value computed in a trace would belong to the trace.
        with tf.init_scope():
            value = self._compute_initial(name, sizes, initializer)
            _check_initial(path, value, sizes, trainable)
            if dtype == tf.float64 and value.dtype.is_floating:
                value = tf.cast(value, dtype)
            variable = tf.Variable(value, trainable=trainable, name=path)
        # The lock excludes the creation, where replicas' threads wait for each other.
        with _publishing:
            existing = getattr(self, name, None)
            if existing is not None:
                return existing
            setattr(self, name, variable)
            terms.set_trainable(variable, self.trainable)
            target = self.parameters.get(name, "")
            if target in _COLLECTIONS:
                self.store.add_owned(_COLLECTIONS[target], variable)
            for regularizer in self.get_regularizers(target):
                self._add_term(name, regularizer)
        return variable

    def _compute_initial(
        self, name: str, sizes: tf.TensorShape, initializer: initializers.Initializer
    ) -> tf.Tensor:
        if not sizes.num_elements():
            raise ValueError(
                f"shape of {self.name}/{name} must be known and not 0, got "
                f"{tuple(sizes)}: give the inputs a static shape but for the batch"
            )
        seed = (self.seed, zlib.crc32(f"{self.place}/{name}".encode()) >> 1)
        return tf.convert_to_tensor(initializer(sizes.as_list(), seed))

    @scopes.do_not_convert
    def penalize_activity(self, outputs: tf.Tensor) -> tf.Tensor:
        """Adds the penalties of outputs `[batch, ...]`, divided by the batch size.

        Returns:
            The outputs, unchanged.
        """
        for regularizer in self.get_regularizers("activity"):
            name = f"{self.name}/activity/Regularizer/{terms.get_name(regularizer)}"
            ownership.add_activity(regularizer, outputs, name, self, self.store)
        return outputs

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the outputs `[batch, ...]` of inputs `[batch, ...]`."""
        raise NotImplementedError

    @scopes.do_not_convert
    def check_inputs(
        self,
        inputs: Any,
        min_rank: int,
        max_rank: int | None = None,
        kind: str = "floating",
    ) -> tf.Tensor:
        """Returns the inputs as a tensor.

        Args:
            inputs: anything that `tf.convert_to_tensor` takes.
            min_rank: smallest rank allowed, including the batch.
            max_rank: largest rank allowed; None: any.
            kind: kind of dtype, "floating" or "integer".

        Raises:
            TypeError: the dtype is of another kind, or the inputs are a KerasTensor.
            ValueError: the rank isn't allowed.
        """
        foreign.check_symbolic(self.name, inputs)
        inputs = tf.convert_to_tensor(inputs)
        # A cast of the weights to an integer dtype would give 0.
        if not getattr(inputs.dtype, f"is_{kind}"):
            example = "tf.float32) / 255.0" if kind == "floating" else "tf.int32)"
            raise TypeError(
                f"inputs of {self.name} must be {kind}, got {inputs.dtype.name}: "
                f"write for example tf.cast(x, {example}"
            )
        self.check_shape(inputs.shape, min_rank, max_rank)
        return inputs

    def check_shape(
        self, shape: tf.TensorShape, min_rank: int, max_rank: int | None = None
    ) -> None:
        """Raises ValueError if the rank of a shape isn't allowed."""
        rank = shape.rank
        if rank is not None and not min_rank <= rank <= (max_rank or rank):
            more = "" if max_rank == min_rank else " or more"
            raise ValueError(
                f"inputs of {self.name} must have rank {min_rank}{more}, got shape "
                f"{shape}: reshape them, the batch is the first dimension"
            )

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"a layer must not be copied or pickled, got a {type(self).__name__}: its "
            "penalties would be lost, so build a second one and assign its variables"
        )


def _check_initial(path: str, value: tf.Tensor, shape: Any, trainable: bool) -> None:
    if value.shape != shape:
        raise ValueError(
            f"the initializer of {path} must return the shape {shape}, got "
            f"{value.shape}: make values of the shape that it is called with"
        )
    if trainable and not value.dtype.is_floating:
        raise TypeError(
            f"the initializer of {path} must return floating values, got "
            f"{value.dtype.name}: an optimizer can't change others, so cast them"
        )
