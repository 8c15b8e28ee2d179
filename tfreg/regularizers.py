"""Penalties with the names and the numbers of `tf.contrib.layers`.

    regularizer = tfreg.l2_regularizer(1e-4)
    regularizer(w)  # 1e-4 * sum(w ** 2) / 2

The trap: contrib's L2 has the factor 1/2 of `tf.nn.l2_loss`; that of Keras and Sonnet
has not. Keras's `L2(1e-4)` is `l2_regularizer(2e-4)`.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
from absl import logging

from tfreg.collections import scopes, terms

Regularizer = terms.Regularizer
Scale: TypeAlias = float | tf.Variable | tf.Tensor | Callable[[Any], Any]


@tf.keras.utils.register_keras_serializable(package="tfreg")
@dataclasses.dataclass(frozen=True, eq=False)
class ScaledRegularizer:
    """The penalty `scale * measure(weights)`, in the dtype of the weights.

    If the scale is a number, Keras can serialize it, and so clone and save a model.

    Attributes:
        name: name of the factory, for example l2_regularizer.
        scale: as for `l2_regularizer`.
    """

    name: str
    scale: Scale

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        if isinstance(weights, tf.RaggedTensor | tf.SparseTensor):
            raise TypeError(
                f"weights must be dense, got a {type(weights).__name__}: "
                "pass its flat_values or values"
            )
        weights = tf.convert_to_tensor(weights)
        if weights.dtype.is_complex:
            weights = tf.abs(weights)
        dtype = weights.dtype
        if not dtype.is_floating:
            # A scale of 1e-4 would be 0 as an integer.
            raise TypeError(f"weights must be floating, got {dtype.name}: cast them")
        # A float16 sum of squares overflows at 65504.
        if dtype.size < 4:
            weights = tf.cast(weights, tf.float32)
        scale = _read(self.scale)
        if isinstance(scale, numbers.Real):
            # tf.cast alone would round it to float32 on the way to float64.
            scale = tf.convert_to_tensor(float(scale), weights.dtype)
        measure = _MEASURES[self.name]
        return tf.cast(tf.cast(scale, weights.dtype) * measure(weights), dtype)

    def __repr__(self) -> str:
        return f"{self.name}({_describe(self.scale)})"

    def get_config(self) -> dict[str, Any]:
        """Returns the argument of `from_config`, for `keras.saving`.

        Raises:
            ValueError: the scale is a variable or a function.
        """
        if not isinstance(self.scale, numbers.Real):
            raise ValueError(
                f"scale must be a number to be saved, got {_describe(self.scale)}: "
                "save the model's weights, or write the number"
            )
        return {"name": self.name, "scale": float(self.scale)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ScaledRegularizer":
        """Returns the regularizer of a `get_config`."""
        return cls(config["name"], config["scale"])


@tf.keras.utils.register_keras_serializable(package="tfreg")
@dataclasses.dataclass(frozen=True, eq=False)
class SumRegularizer:
    """The sum of the penalties of other regularizers.

    Attributes:
        name: name of the factory, for example sum_regularizer.
        members: the regularizers.
    """

    name: str
    members: tuple[Regularizer, ...]

    def __call__(self, weights: tf.Tensor) -> tf.Tensor | None:
        penalties = [member(weights) for member in self.members]
        return terms.add_up([p for p in penalties if p is not None])

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.members))

    def get_config(self) -> dict[str, Any]:
        """Returns the argument of `from_config`, for `keras.saving`.

        Raises:
            ValueError: a member isn't tfreg's, or its scale isn't a number.
        """
        for member in self.members:
            if not isinstance(member, ScaledRegularizer):
                raise ValueError(
                    f"members of {self.name} must be tfreg's to be saved, got "
                    f"{member!r}: save the model's weights"
                )
        members = [m.get_config() for m in self.members]  # type: ignore[attr-defined]
        return {"name": self.name, "members": members}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SumRegularizer":
        """Returns the regularizer of a `get_config`."""
        members = tuple(map(ScaledRegularizer.from_config, config["members"]))
        return cls(config["name"], members)


@dataclasses.dataclass(frozen=True, eq=False)
class DistanceRegularizer:
    """The penalty of the weights' distance from a reference; see `l2_sp_regularizer`.

    Attributes:
        regularizer: of the distance.
        reference: of the weights' shape.
    """

    regularizer: Regularizer
    reference: Any
    name: str = "l2_sp_regularizer"

    def __call__(self, weights: tf.Tensor) -> tf.Tensor | None:
        weights = tf.convert_to_tensor(weights)
        reference = tf.convert_to_tensor(self.reference)
        return self.regularizer(weights - tf.cast(reference, weights.dtype))

    def __repr__(self) -> str:
        return repr(self.regularizer).replace("l2_regularizer", self.name)


def is_scale(variable: tf.Variable) -> bool:
    """Returns whether a variable has been read as the scale of a regularizer."""
    return getattr(variable, "_tfreg_is_scale", False)


def no_regularizer(weights: tf.Tensor) -> None:
    """Returns None, no penalty. Source: `tf.compat.v1.no_regularizer`."""
    del weights


def _read(scale: Scale) -> Any:
    """Returns the current value of a scale; calls a function with the step's number."""
    if not callable(scale) or isinstance(scale, tf.Variable):
        if isinstance(scale, tf.Variable):
            scale._tfreg_is_scale = True
        return scale
    step = scopes.get_step_number()
    if step is None:
        raise ValueError(
            f"scale must be known in this step, got the function {_describe(scale)} "
            "and no step to call it with: put the step into "
            "`with tfreg.step_scope(step=optimizer.step):`"
        )
    return scale(tf.convert_to_tensor(step[0]))


def _describe(scale: Scale) -> str:
    if isinstance(scale, tf.Variable):
        return f"variable {scale.name}"
    return getattr(scale, "__name__", repr(scale))


def _check_scale(scale: Any, name: str = "scale") -> None:
    if isinstance(scale, numbers.Integral):
        raise ValueError(
            f"{name} cannot be an integer, it must be a finite float >= 0, got "
            f"{scale!r}: write 1.0 for 1, and 0.0 for no penalty"
        )
    if isinstance(scale, numbers.Real):
        if not (math.isfinite(scale) and float(scale) >= 0.0):
            raise ValueError(
                f"{name} must be a finite float >= 0, got {scale!r}: "
                "write 0.0 for no penalty"
            )
    elif not (tf.is_tensor(scale) or callable(scale)):
        raise TypeError(
            f"{name} must be a float, a tf.Variable or a function of the step, got "
            f"{scale!r}: write for example 1e-4"
        )


def _scaled(name: str, scale: Scale) -> Regularizer:
    _check_scale(scale)
    if isinstance(scale, numbers.Real) and scale == 0.0:
        logging.info("Scale of 0 disables regularizer.")
        return no_regularizer
    return ScaledRegularizer(name, scale)


def _sum_magnitudes(weights: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.abs(weights))


_MEASURES = {"l1_regularizer": _sum_magnitudes, "l2_regularizer": tf.nn.l2_loss}


def l1_regularizer(scale: Scale) -> Regularizer:
    """Returns the penalty `scale * sum(|w|)`.

    Args:
        scale: finite float >= 0, in loss per weight, 0.0 is no penalty; or a
            tf.Variable; or a function, integer step -> scalar.

    Returns:
        A function: floating tensor of any shape -> scalar of the same dtype. float16
        and bfloat16 are summed in float32; complex weights count by their magnitudes.
        For a scale of 0.0 it returns None. It raises TypeError for weights that are
        sparse, ragged, or neither floating nor complex.

    Raises:
        ValueError: `scale` is an int, a bool, negative, NaN or infinite.
        TypeError: `scale` isn't a number, tensor or function.

    Source: `tf.contrib.layers.l1_regularizer`; Keras `L1(s)` is the same.
    """
    return _scaled("l1_regularizer", scale)


def l2_regularizer(scale: Scale) -> Regularizer:
    """Returns the penalty `scale * sum(w ** 2) / 2`.

    Args:
        scale: finite float >= 0, in loss per squared weight, 0.0 is no penalty; or a
            tf.Variable; or a function, integer step -> scalar.

    Returns:
        A function: floating tensor of any shape -> scalar of the same dtype. float16
        and bfloat16 are summed in float32; complex weights count by their magnitudes.
        For a scale of 0.0 it returns None. It raises TypeError for weights that are
        sparse, ragged, or neither floating nor complex.

    Raises:
        ValueError: `scale` is an int, a bool, negative, NaN or infinite.
        TypeError: `scale` isn't a number, tensor or function.

    Source: `tf.contrib.layers.l2_regularizer`; Keras `L2(s)` is this at `2 * s`.
    """
    return _scaled("l2_regularizer", scale)


def l1_l2_regularizer(scale_l1: Scale = 1.0, scale_l2: Scale = 1.0) -> Regularizer:
    """Returns the penalty `scale_l1 * sum(|w|) + scale_l2 * sum(w ** 2) / 2`.

    Args:
        scale_l1: as for `l1_regularizer`; with 0.0 only L2 remains.
        scale_l2: as for `l2_regularizer`; with 0.0 only L1 remains.

    Returns:
        A function as for `l2_regularizer`; it returns None if both scales are 0.0.

    Raises:
        ValueError: a scale is an int, a bool, negative, NaN or infinite.
        TypeError: a scale isn't a number, tensor or function.

    Source: `tf.contrib.layers.l1_l2_regularizer`; Keras `L1L2(a, b)` is this at
        `(a, 2 * b)`.
    """
    _check_scale(scale_l1, "scale_l1")
    _check_scale(scale_l2, "scale_l2")
    members = [l1_regularizer(scale_l1), l2_regularizer(scale_l2)]
    members = [member for member in members if member is not no_regularizer]
    if not members:
        return no_regularizer
    return SumRegularizer("l1_l2_regularizer", tuple(members))


def l2_sp_regularizer(scale: Scale, reference: Any) -> Regularizer:
    """Returns the penalty `scale * sum((w - reference) ** 2) / 2`.

    It draws the weights to those of an earlier training, from which they started.
    `tfreg.rules.apply("l2_sp(1e-3)@kernel", model)` takes the current weights.

    Args:
        scale: as for `l2_regularizer`.
        reference: tensor, array or untrained tf.Variable of the weights' shape. A
            `tfreg.Step` saves a variable with the model.

    Returns:
        A function as for `l2_regularizer`.

    Raises:
        ValueError: as for `l2_regularizer`.
        TypeError: as for `l2_regularizer`.

    Source: Li, Grandvalet & Davoine 2018.
    """
    known = l2_regularizer(scale)
    if known is no_regularizer:
        return no_regularizer
    return DistanceRegularizer(known, reference)


def sum_regularizer(
    regularizer_list: Sequence[Regularizer | None],
) -> Regularizer | None:
    """Returns the sum of several penalties.

    Args:
        regularizer_list: regularizers; None is ignored.

    Returns:
        A function as for `l2_regularizer`, or None if there are no regularizers. The
        function ignores those that return None, and returns None if all do.

    Raises:
        TypeError: a member isn't callable.

    Source: `tf.contrib.layers.sum_regularizer`.
    """
    members = tuple(member for member in regularizer_list if member is not None)
    for member in members:
        if not callable(member):
            raise TypeError(
                f"regularizer_list must hold callables, got {member!r}: "
                "write for example [tfreg.l1_regularizer(1e-5)]"
            )
    return SumRegularizer("sum_regularizer", members) if members else None


# What a layer takes by its name, at the scale of `tfreg train --reg=NAME`.
NAMED = {"l1": l1_regularizer(1e-4), "l2": l2_regularizer(1e-4)}
