"""TF1's checkpoints, which know a variable by its name, to and from a model.

    net(x)  # makes the variables
    tf1.save("model.ckpt-2000", net)  # tf.compat.v1.train.Saver restores it
    report = tf1.restore("model.ckpt-2000", net)  # or one that such a Saver wrote
    report.check()  # raises where one of the model's wasn't restored

The trap: a variable whose scope was renamed keeps its random value, and nothing says so
as long as nobody asks; one of another shape stops the reading half-way.
"""

import dataclasses
import os

import tensorflow as tf

from tfreg.collections import store
from tfreg.tf1 import variables


@dataclasses.dataclass(frozen=True)
class Report:
    """What a checkpoint and a model have in common.

    Attributes:
        restored: names of variables that have the checkpoint's values now.
        missing: names that the checkpoint doesn't have; they kept their values.
        different: name -> how it differs in shape or dtype; they kept theirs too.
        unused: names in the checkpoint that the model doesn't have, as an optimizer's.
    """

    restored: tuple[str, ...]
    missing: tuple[str, ...]
    different: dict[str, str]
    unused: tuple[str, ...]

    def check(self) -> None:
        """Raises where a variable of the model wasn't restored.

        Raises:
            ValueError: there is one; the message names all.
        """
        lost = [f"{name} is missing" for name in self.missing]
        lost += [f"{name} is {how}" for name, how in self.different.items()]
        if lost:
            raise ValueError(
                f"every variable must be in the checkpoint, got {'; '.join(lost)}: "
                "rename their scopes, or go on without check()"
            )


def _list_named(model: variables.VariableStore) -> dict[str, tf.Variable]:
    """Returns the variables by name, and the global step if there is one.

    Raises:
        ValueError: there are none.
    """
    named = dict(model.variables_by_name)
    if not named:
        raise ValueError(
            "the model must have its variables, got none: call it once on a batch"
        )
    for step in model.collections.get_collection(store.GraphKeys.GLOBAL_STEP):
        named.setdefault("global_step", step)
    return named


def _describe(shape: tf.TensorShape | list[int], dtype: tf.DType) -> str:
    return f"{dtype.name} {list(shape)}"


def restore(path: str | os.PathLike, model: variables.VariableStore) -> Report:
    """Gives variables the values that a TF1 checkpoint has under their names.

    Args:
        path: prefix of the checkpoint's files, or a folder whose latest one is meant.
        model: a `Model` or `VariableStore` that has its variables.

    Returns:
        What was restored, and what wasn't and why.

    Raises:
        ValueError: the model has no variables yet, or the checkpoint none of them.
        tf.errors.OpError: there is no such checkpoint, or it is damaged.

    Source: `tf.compat.v1.train.Saver.restore`, which wants every variable.
    """
    named = _list_named(model)
    reader = tf.train.load_checkpoint(os.fspath(path))
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
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
            f"for {list(named)}: give the forward function the scopes of the old one"
        )
    # All are read before one is changed: a damaged file leaves the model as it was.
    values = {name: reader.get_tensor(name) for name in restored}
    for name, value in values.items():
        named[name].assign(value)
    return Report(
        restored=tuple(restored),
        missing=tuple(name for name in named if name not in shapes),
        different=dict(sorted(different.items())),
        unused=tuple(sorted(shapes.keys() - named.keys())),
    )


def save(path: str | os.PathLike, model: variables.VariableStore) -> str:
    """Writes the variables by their names, as TF1's Saver.

    Args:
        path: prefix of the files `<path>.index` and `<path>.data-00000-of-00001`.
        model: a `Model` or `VariableStore` that has its variables.

    Returns:
        The path.

    Raises:
        ValueError: the model has no variables yet.
        tf.errors.OpError: it can't be written.

    Source: `tf.compat.v1.train.Saver.save`, without its state file.
    """
    named, prefix = _list_named(model), os.fspath(path)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(named),
        shape_and_slices=[""] * len(named),
        tensors=[tf.convert_to_tensor(variable) for variable in named.values()],
    )
    return prefix
