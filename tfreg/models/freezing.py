"""Freezes variables of any model by themselves, not by layers.

    from tfreg.models import freezing

    adapted = models.adapt(model)
    kernel, bias = freezing.list_parameters(adapted)[:2]
    freezing.set_trainable(adapted, {id(bias): False})

The trap: a variable that is left out of the update and not frozen. Its penalties count
all the same, and a tape computes its gradient.
"""

from collections.abc import Mapping

import tensorflow as tf

from tfreg.collections import parts, terms
from tfreg.models.adapt import Adapted


def list_parameters(adapted: Adapted) -> list[tf.Variable]:
    """Returns the variables that are trained and those that are frozen."""
    trained = {id(v) for v in adapted.trainable_variables}
    keras = parts.list_keras_variables(parts.list_parts(adapted.model))
    # The value of a Keras variable keeps whether it was created to be trained.
    trained |= {id(value) for value in map(parts.unwrap, keras) if value.trainable}
    return [v for v in adapted.variables if id(v) in trained or terms.is_frozen(v)]


def set_trainable(adapted: Adapted, trainable: Mapping[int, bool]) -> None:
    """Freezes and unfreezes variables.

    Args:
        adapted: the model.
        trainable: id of a variable -> whether it is trained.
    """
    keras = parts.list_keras_variables(parts.list_parts(adapted.model))
    of_keras = {id(parts.unwrap(variable)): variable for variable in keras}
    for variable in adapted.variables:
        if id(variable) not in trainable:
            continue
        if id(variable) in of_keras:
            of_keras[id(variable)].trainable = trainable[id(variable)]
        else:
            terms.set_trainable(variable, trainable[id(variable)])


def hold(adapted: Adapted, trained: set[int], held: set[int]) -> set[int]:
    """Freezes all variables but some, and unfreezes those of them that were held.

    What something else has frozen isn't unfrozen.

    Args:
        adapted: the model.
        trained: ids of the variables to train.
        held: ids of those that this function has frozen before.

    Returns:
        The ids of those that are held now.
    """
    current = {id(variable) for variable in adapted.trainable_variables}
    changed = {key: False for key in current - trained}
    set_trainable(adapted, changed | {key: True for key in held & trained})
    return (held | current) - trained
