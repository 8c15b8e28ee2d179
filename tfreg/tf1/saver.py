"""Saves and restores TF1's checkpoints, which identify variables by name.

    net(x)  # creates the variables
    optimizer = tf.compat.v1.train.AdamOptimizer(1e-3)
    tf1.save("model.ckpt-2000", net)  # tf.compat.v1.train.Saver can restore it
    report = tf1.restore("model.ckpt-2000", net)  # also a Saver's checkpoint
    report.check()  # raises if a variable of the model wasn't restored
    tf1.restore("model.ckpt-2000", net, optimizer)  # and the training goes on

The trap: a variable whose scope was renamed keeps its random value without an error;
one of another shape stops the restoring half-way.
"""

import dataclasses
import os
from collections.abc import Container
from typing import Any

import tensorflow as tf

from tfreg.collections import store
from tfreg.tf1 import slots, variables


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of restoring a checkpoint.

    Attributes:
        restored: names of the variables that were restored.
        missing: names that the checkpoint doesn't have; these keep their values.
        different: name -> difference in shape or dtype; these keep their values too.
        unused: names in the checkpoint that the model doesn't have, such as those of
            an optimizer that wasn't given.
    """

    restored: tuple[str, ...]
    missing: tuple[str, ...]
    different: dict[str, str]
    unused: tuple[str, ...]

    def check(self) -> None:
        """Raises if a variable of the model wasn't restored.

        Raises:
            ValueError: a variable is missing or different; the message lists all.
        """
        problems = [f"{name} is missing" for name in self.missing]
        problems += [f"{name} is {how}" for name, how in self.different.items()]
        if problems:
            raise ValueError(
                f"every variable must be in the checkpoint, got {'; '.join(problems)}: "
                "rename their scopes, or leave out check()"
            )


def _list_named(
    model: variables.VariableStore, optimizer: Any, averages: Any
) -> dict[str, tf.Variable]:
    """Returns all variables by name, and the global step if there is one.

    Raises:
        ValueError: the model has no variables yet.
    """
    named = dict(model.variables_by_name)
    if not named:
        raise ValueError(
            "the model must have variables, got none: call it once on a batch"
        )
    pairs = slots.pair_up(optimizer, model.trainable_variables)
    named |= slots.list_state(pairs, averages, named)
    for step in model.collections.get_collection(store.GraphKeys.GLOBAL_STEP):
        named.setdefault("global_step", step)
    return named


def _describe(shape: tf.TensorShape | list[int], dtype: tf.DType) -> str:
    return f"{dtype.name} {list(shape)}"


def restore(
    path: str | os.PathLike,
    model: variables.VariableStore,
    optimizer: Any = None,
    averages: Any = None,
) -> Report:
    """Restores variables from a TF1 checkpoint, by name.

    Args:
        path: prefix of the checkpoint's files, or a folder, for its latest checkpoint.
        model: a `Model` or `VariableStore` whose variables exist.
        optimizer: of `tf.compat.v1.train`, whose slots are restored, too; or a list of
            pairs of an optimizer and its variables, in the order in which TF1's graph
            had them; None: none.
        averages: a `tf.train.ExponentialMovingAverage` to restore, too; None: none.

    Returns:
        The names of the variables that were restored, and of those that weren't.

    Raises:
        ValueError: the model has no variables yet, or the checkpoint has none of them.
        TypeError: an optimizer isn't of `tf.compat.v1.train`.
        tf.errors.OpError: there is no such checkpoint, or it is damaged.

    Source: `tf.compat.v1.train.Saver.restore`, which requires every variable.
    """
    named = _list_named(model, optimizer, averages)
    reader = tf.train.load_checkpoint(os.fspath(path))
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    own = set(model.variables_by_name)
    named = {n if n in own else _find(n, shapes): v for n, v in named.items()}
    different = {}
    for name in named.keys() & shapes.keys():
        have = _describe(shapes[name], dtypes[name])
        want = _describe(named[name].shape, named[name].dtype)
        if have != want:
            different[name] = f"{have} in it and {want} in the model"
    restored = [name for name in named if name in shapes and name not in different]
    if not restored:
        raise ValueError(
            f"checkpoint {path} must hold variables of the model, got {sorted(shapes)} "
            f"for {list(named)}: use the checkpoint's scopes in the forward function"
        )
    # All are read before any is assigned: a damaged file leaves the model unchanged.
    values = {name: reader.get_tensor(name) for name in restored}
    for name, value in values.items():
        named[name].assign(value)
    return Report(
        restored=tuple(restored),
        missing=tuple(name for name in named if name not in shapes),
        different=dict(sorted(different.items())),
        unused=tuple(sorted(shapes.keys() - named.keys())),
    )


def _find(name: str, known: Container[str]) -> str:
    """Returns the name in the checkpoint; optimize_loss had a scope of its own."""
    inner = f"OptimizeLoss/{name}"
    return inner if name not in known and inner in known else name


def save(
    path: str | os.PathLike,
    model: variables.VariableStore,
    optimizer: Any = None,
    averages: Any = None,
) -> str:
    """Writes a TF1 checkpoint, which stores variables by name.

    Args:
        path: prefix of the files `<path>.index` and `<path>.data-00000-of-00001`.
        model: a `Model` or `VariableStore` whose variables exist.
        optimizer: as for `restore`.
        averages: as for `restore`.

    Returns:
        The path.

    Raises:
        ValueError: the model has no variables yet.
        tf.errors.OpError: the files can't be written.

    Source: `tf.compat.v1.train.Saver.save`, without its state file.
    """
    named, prefix = _list_named(model, optimizer, averages), os.fspath(path)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(named),
        shape_and_slices=[""] * len(named),
        tensors=[tf.convert_to_tensor(variable) for variable in named.values()],
    )
    return prefix
