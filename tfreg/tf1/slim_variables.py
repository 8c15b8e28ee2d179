"""slim's functions for variables, which take defaults from an arg_scope.

    with tf1.arg_scope([tf1.model_variable], regularizer=tf1.l2_regularizer(1e-4)):
        w = tf1.model_variable("w", [784, 10])  # also in MODEL_VARIABLES

The trap: `get_variable` takes no defaults from an arg_scope.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import store, terms
from tfreg.tf1 import variables
from tfreg.tf1.arg_scopes import add_arg_scope

_KEYS = [store.GraphKeys.GLOBAL_VARIABLES, store.GraphKeys.MODEL_VARIABLES]


@add_arg_scope
def variable(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
    initializer: variables.Initializer = None,
    regularizer: terms.Regularizer | None = None,
    trainable: bool = True,
    collections: Sequence[Hashable] | None = None,
    *,
    custom_getter: Callable[..., Any] | None = None,
) -> Any:
    """Returns `get_variable` of the same arguments, with defaults of an arg_scope.

    Source: `tf.contrib.framework.variable`.
    """
    return variables.get_variable(
        name,
        shape,
        dtype,
        initializer,
        regularizer,
        trainable,
        collections,
        custom_getter=custom_getter,
    )


@add_arg_scope
def model_variable(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: Any = tf.float32,
    initializer: variables.Initializer = None,
    regularizer: terms.Regularizer | None = None,
    trainable: bool = True,
    collections: Sequence[Hashable] | None = None,
    *,
    custom_getter: Callable[..., Any] | None = None,
) -> Any:
    """Returns `variable` of the same arguments, also added to MODEL_VARIABLES.

    Source: `tf.contrib.framework.model_variable`.
    """
    return variable(
        name,
        shape,
        dtype,
        initializer,
        regularizer,
        trainable,
        [*(collections or ()), *_KEYS],
        custom_getter=custom_getter,
    )
