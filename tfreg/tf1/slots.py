"""The names that TF1 gave the state of its optimizers and moving averages.

    net(x)  # creates the variable w
    optimizer = tf.compat.v1.train.AdamOptimizer(1e-3)
    pairs = [(optimizer, net.trainable_variables)]
    named = list_state(pairs, None, {"w": net.trainable_variables[0]})
    named["w/Adam_1"]  # Adam's second slot of w

The trap: TensorFlow creates the slots in the first update. Read before it, a checkpoint
would leave them out, and the training would go on with slots of zeros.
"""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow

v1 = tf.compat.v1.train

# In the order in which TensorFlow's optimizers create theirs.
_ORDER = ["m", "v", "rms", "mg", "momentum", "accumulator"]
_ORDER += ["accum", "accum_update", "linear"]
Pairs = Sequence[tuple[Any, Sequence[tf.Variable]]]  # Optimizers and their variables.


def pair_up(optimizer: Any, trained: Sequence[tf.Variable]) -> Pairs:
    """Returns pairs of an optimizer and its variables.

    Args:
        optimizer: an optimizer, for `trained`; or a list of such pairs; None: none.
        trained: the trained variables of the model.

    Raises:
        TypeError: an optimizer isn't of `tf.compat.v1.train`.
    """
    pairs = optimizer if isinstance(optimizer, list | tuple) else [(optimizer, trained)]
    pairs = [] if optimizer is None else pairs
    for pair in pairs:
        if not (isinstance(pair, tuple) and isinstance(pair[0], v1.Optimizer)):
            raise TypeError(
                "optimizer must be of tf.compat.v1.train, whose state TF1's "
                f"checkpoints have, or a list of (optimizer, variables), got {pair!r}: "
                "use for example tf.compat.v1.train.AdamOptimizer"
            )
    return pairs


def list_state(
    pairs: Pairs, averages: Any, named: Mapping[str, tf.Variable]
) -> dict[str, tf.Variable]:
    """Returns the variables of optimizers and moving averages by their name in TF1.

    Those that don't exist yet are created.

    Args:
        pairs: optimizers and their variables, in the order of TF1's graph.
        averages: a `tf.train.ExponentialMovingAverage`; None: none.
        named: the variables of the model by name.
    """
    names = {id(variable): name for name, variable in named.items()}
    taken: collections.Counter = collections.Counter()
    state: dict[str, tf.Variable] = {}

    def add(name: str, variable: tf.Variable) -> None:
        number = taken[name]
        taken[name] += 1
        state[f"{name}_{number}" if number else name] = variable

    for optimizer, variables in pairs:
        _tensorflow.create_slots(optimizer, variables)
        slots = sorted(optimizer.get_slot_names(), key=_ORDER.index)
        for variable in variables:
            for slot in slots:
                name = f"{names[id(variable)]}/{optimizer.get_name()}"
                add(name, optimizer.get_slot(variable, slot))
        for variable in optimizer.variables():
            if power := re.search(r"beta[12]_power(?=(_\d+)?:0$)", variable.name):
                add(power[0], variable)
    if averages is not None:
        for name, variable in named.items():
            shadow = averages.average(variable)
            if shadow is None and variable.trainable:
                averages.apply([variable])
                shadow = averages.average(variable)
            if shadow is not None:
                state[f"{name}/{averages.name}"] = shadow
    return state
