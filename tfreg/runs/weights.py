"""Initial weights of a model from an earlier training.

    tfreg.Trainer(trained, directory="runs/other").run(epochs=1)
    report = tfreg.load_weights(model, "runs/other", pattern="dense_.*")
    print(report)  # what was loaded, and what wasn't
    tfreg.rules.apply("l2_sp(1e-3)@kernel", model)  # stay near them

It reads a run of tfreg, a `.keras` or `.weights.h5` file, an `.npz` file by the
variables' paths, and checkpoints of TF1 and TF2. The trap: a name that matches nothing,
and a layer that starts from random values in silence.
"""

import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import _checks, models
from tfreg.collections import parts
from tfreg.training import manifests

_KINDS = "a run, .keras, .weights.h5, .npz or a checkpoint of TensorFlow"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class WeightsError(ValueError):
    """Weights can't be read or fit no variable; scripts end with exit status 4."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What `load_weights` has loaded.

    Attributes:
        source: path of the file.
        loaded: the variables' paths that have new values.
        missing: those that the pattern matches and the file doesn't have.
        misshapen: those whose shape in the file is another one, with both in words.
        unused: names in the file that weren't used.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.loaded) + len(self.missing) + len(self.misshapen)
        lines = [f"{len(self.loaded)} of {count} variables loaded from {self.source}"]
        parts = {
            "not in the file": self.missing,
            "of another shape": self.misshapen,
            "not used": self.unused,
        }
        lines += [f"  {k}: {', '.join(names)}" for k, names in parts.items() if names]
        return "\n".join(lines)


def load_weights(
    model: Any,
    source: str | os.PathLike,
    pattern: str = ".*",
    rename: Mapping[str, str] | None = None,
) -> Loaded:
    """Assigns the values of an earlier training to a model's variables.

    A value is taken for a variable of the same path and shape. The variables must exist
    already.

    Args:
        model: as for `models.adapt`.
        source: path of a run's directory, a file `.keras`, `.weights.h5` or `.npz`, or
            a checkpoint of TF1 or TF2. `.weights.h5` has no paths: it takes a Keras
            model of the same layers.
        pattern: regular expression on the paths of the variables to load, or parts of
            them.
        rename: regular expression on a variable's path -> replacement, for a file in
            which it has another name.

    Returns:
        What was loaded; print it.

    Raises:
        WeightsError: the file can't be read, or has nothing for the model.
        ValueError: the pattern isn't a regular expression, or the model has no
            variables yet.
    """
    path = pathlib.Path(source)
    adapted = models.adapt(model)
    named = adapted.by_path(adapted.variables)
    if not named:
        raise ValueError(
            "model must have variables, got none: call it once before load_weights"
        )
    _checks.check_pattern(pattern, "block_.*")
    chosen = {k: v for k, v in named.items() if parts.matches_path(pattern, k)}
    values = read_weights(path, model)
    places = _find_names(named, values, rename or {})
    missing = [name for name in chosen if name not in places]
    used = {name: places[name] for name in chosen if name in places}
    loaded, misshapen = [], []
    for name, place in used.items():
        value, variable = values[place], chosen[name]
        if tuple(value.shape) != tuple(variable.shape):
            shapes = "x".join(map(str, value.shape)), "x".join(map(str, variable.shape))
            misshapen.append(f"{name} ({shapes[0]}, not {shapes[1]})")
            continue
        variable.assign(tf.cast(value, variable.dtype))
        loaded.append(name)
    if not loaded:
        raise WeightsError(
            f"weights must fit a variable, got {str(path)!r} with "
            f"{_shorten(values)}, and the variables are {_shorten(chosen)}: rename "
            "them, or change the pattern"
        )
    unused = set(values) - set(used.values())
    lists = loaded, missing, misshapen, [name for name in values if name in unused]
    return Loaded(str(path), *map(tuple, lists))


def _find_names(
    names: Iterable[str], values: Iterable[str], rename: Mapping[str, str]
) -> dict[str, str]:
    """Returns the name in the file of each variable that it has, by its path."""
    wanted = {}
    for name in names:
        other = name
        for old, new in rename.items():
            other = re.sub(old, new, other)
        wanted[name] = other
    numbered = dict(zip(_renumber(values), values, strict=True))
    again = dict(zip(wanted, _renumber(wanted.values()), strict=True))
    places = {}
    for name, other in wanted.items():
        if other in values:
            places[name] = other
        elif again[name] in numbered:
            places[name] = numbered[again[name]]
    return places


def _renumber(paths: Iterable[str]) -> list[str]:
    """Returns paths with Keras's automatic numbers of layers counted from 0.

    A second model of a process has `sequential_1/dense_2/kernel` for the first one's
    `sequential/dense/kernel`. A first part that all have, the model's, is left out.
    """
    split = [path.split("/") for path in paths]
    if len({names[0] for names in split}) == 1 and all(len(n) > 1 for n in split):
        split = [names[1:] for names in split]
    # Of each layer and kind, the numbers of those that it contains.
    numbers: dict[tuple[str, str], set[int]] = {}
    keyed = []
    for names in split:
        parents = itertools.accumulate(["", *names[:-1]], "{}/{}".format)
        keyed.append([(p, *_divide(n)) for p, n in zip(parents, names, strict=True)])
        for parent, base, number in keyed[-1]:
            numbers.setdefault((parent, base), set()).add(number)
    ranks = {key: sorted(each) for key, each in numbers.items()}
    return [
        "/".join(f"{base}_{ranks[p, base].index(number)}" for p, base, number in names)
        for names in keyed
    ]


def _divide(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def _shorten(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return (", ".join(listed[:20]) or "none") + more


def read_weights(path: pathlib.Path, model: Any = None) -> dict[str, np.ndarray]:
    """Returns the values in a file by name, as for `load_weights`.

    Args:
        path: of the file or directory.
        model: the Keras model that a `.weights.h5` file is of.

    Raises:
        WeightsError: it can't be read.
    """
    if (path / manifests.FOLDER).is_dir():
        return _read_run(path)
    _checks.check_regular(path, WeightsError)
    try:
        if path.name.endswith(".npz"):
            return _read_npz(path)
        if path.name.endswith(".keras"):
            return _name(tf.keras.models.load_model(path, compile=False))
        if path.name.endswith(".weights.h5"):
            return _read_h5(path, model)
        return _read_checkpoint(path)
    except (OSError, ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise WeightsError(
            f"weights must be in {_KINDS}, got {str(path)!r} ({reason}): name another "
            "file"
        ) from None


def _read_run(path: pathlib.Path) -> dict[str, np.ndarray]:
    for checkpoint in manifests.list_newest_first(path / manifests.FOLDER):
        try:
            _, metadata = manifests.verify(checkpoint)
        except manifests.CheckpointError:
            continue
        if "names" not in metadata:
            break
        reader = tf.train.load_checkpoint(str(checkpoint / "state"))
        names = metadata["names"].items()
        return {name: reader.get_tensor(key) for name, key in names}
    raise WeightsError(
        f"a run must have an intact checkpoint with its variables' names, got "
        f"{str(path)!r}: train it again"
    )


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _name(model: Any) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in model.variables}


def _read_h5(path: pathlib.Path, model: Any) -> dict[str, np.ndarray]:
    if not parts.is_keras(model):
        raise ValueError(f"it is for a Keras model, not a {type(model).__name__}")
    before = [variable.numpy() for variable in model.variables]
    try:
        model.load_weights(path)
        return _name(model)
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)


def _read_checkpoint(path: pathlib.Path) -> dict[str, np.ndarray]:
    prefix = str(path)
    if path.is_dir():
        prefix = tf.train.latest_checkpoint(prefix) or prefix
    reader = tf.train.load_checkpoint(prefix.removesuffix(".index"))
    values = {}
    for key in reader.get_variable_to_shape_map():
        value = reader.get_tensor(key)
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            values[key.removesuffix(_SUFFIX)] = value
    return values
