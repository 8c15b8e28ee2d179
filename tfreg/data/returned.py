"""A data set of what a function of one's own returns: arrays, parts or a source.

    dataset = returned.make_dataset("points", (np.ones([6, 5]), list("abcabc")))
    dataset.train.x.dtype, dataset.task.classes  # float32, ("a", "b", "c")

The trap: parts that a function draws anew at each call. Examples without parts are
divided by the run's seed of the split, as a table is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfreg import _checks
from tfreg.data import arrays, files, indexed, splits, tasks

_ADVICE = (
    "return (x, y), a tfreg.data.Dataset, or a dict with train and perhaps validation "
    "and test"
)


def make_dataset(
    name: str,
    value: Any,
    task: str = "auto",
    split: str = _checks.SPLIT,
    split_seed: int = 0,
    log: Callable[[str], None] = lambda text: None,
    keeps_ids: bool = False,
) -> arrays.Dataset:
    """Returns the data set of a value.

    Args:
        name: of the data set, for messages.
        value: a `Dataset`; or examples; or a dict of examples with `train` and perhaps
            `validation` and `test`. Examples are `(x, y)`, a `Split`, or a source with
            len and an index, which is read into memory. x is one array of numbers:
            uint8 are pixels, others become float32. y is integer classes, texts as
            classes, or floating targets.
        task: one of `tasks.KINDS` or `auto`, of targets that are texts.
        split: fractions of training, validation and test, of examples without parts;
            of `train` and `validation`, where only that is missing.
        split_seed: int >= 0.
        log: called with what is in doubt.
        keeps_ids: whether other integers of x become int32 instead, as ids of tokens.

    Raises:
        DataError: the value is something else, or its parts don't fit.
    """
    if isinstance(value, arrays.Dataset):
        return value
    fractions = _checks.parse_split(split)
    given = value if isinstance(value, Mapping) else {"train": value}
    if "train" not in given or set(given) - set(splits.NAMES):
        raise _refuse(name, f"a dict of {', '.join(map(str, given)) or 'nothing'}")
    if isinstance(fractions, str):
        raise files.DataError(
            f"split must be three fractions for {name}, got {split!r}: return a dict "
            "of parts"
        )
    read = {p: _read(f"{name} ({p})", v, keeps_ids) for p, v in given.items()}
    known, y = _name_classes({part: each.y for part, each in read.items()}, task, log)
    sizes = {part: len(each.x) for part, each in read.items()}
    made = {}
    for part, (source, rows) in splits.complete(sizes, fractions, split_seed).items():
        x, _, weights, pixels = read[source]
        weights = None if weights is None else weights[rows]
        made[part] = arrays.Split(x[rows], y[source][rows], weights, pixels)
    _check_shapes(name, made)
    num_classes = _count(name, made, known)
    return arrays.Dataset(name, **made, num_classes=num_classes, task=known)


class _Examples(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    weights: Any
    pixels: bool


def _read(name: str, value: Any, keeps_ids: bool) -> _Examples:
    """Returns examples of any kind as arrays; y may be texts."""
    pixels = getattr(value, "pixels", None)
    if isinstance(value, arrays.Split):
        value = (value.x, value.y, value.weights)
    elif not isinstance(value, tuple) and hasattr(value, "__getitem__"):
        source = value if hasattr(value, "fetch") else indexed.Indexed(value)
        pixels, value = source.pixels, source.fetch(np.arange(len(source)))
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        raise _refuse(name, f"a {type(value).__name__}")
    if isinstance(value[0], Mapping | tuple) or isinstance(value[1], Mapping | tuple):
        raise _refuse(name, "several arrays as x or y")
    inputs = arrays.Split(value[0], np.zeros(len(value[0])))
    x = inputs.x
    y = np.asanyarray(value[1])
    if x.dtype.kind not in "biuf" or y.shape[:1] != x.shape[:1] or not len(x):
        got = f"{x.dtype} of {list(x.shape)} and {y.dtype} of {list(y.shape)}"
        raise _refuse(name, got)
    if y.dtype.kind in "fiub":
        y = y[:, 0] if y.shape[1:] == (1,) and y.dtype.kind != "f" else y
        is_class = y.dtype.kind in "iu" and y.ndim == 1
        y = y.astype(np.int32 if is_class else np.float32)
        y = y[:, np.newaxis] if y.dtype == np.float32 and y.ndim == 1 else y
        _check_finite(name, "y", y)
    if x.dtype != np.uint8:
        is_id = keeps_ids and x.dtype.kind in "iu"
        x = x.astype(np.int32 if is_id else np.float32)
    _check_finite(name, "x", x, inputs.columns)
    is_uint8 = x.dtype == np.uint8
    weights = value[2] if len(value) == 3 else None
    return _Examples(x, y, weights, is_uint8 if pixels is None else bool(pixels))


def _check_finite(
    name: str, part: str, values: np.ndarray, columns: Sequence[str] = ()
) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise files.DataError(
            f"{part} of {name} must be finite, got NaN or infinity in "
            f"{arrays.locate(wrong, columns)}: fill it in, or leave the row out"
        )


def _name_classes(
    y: dict[str, np.ndarray], kind: str, log: Callable[[str], None]
) -> tuple[tasks.Task | None, dict[str, np.ndarray]]:
    """Returns the task of targets that are texts, and their classes; others as is."""
    if y["train"].dtype.kind in "fiub":
        return None, y
    named = {part: {"y": values.astype(object)} for part, values in y.items()}
    task = tasks.choose(named["train"], kind, log)
    return task, {part: tasks.encode(task, columns) for part, columns in named.items()}


def _count(
    name: str, made: Mapping[str, arrays.Split], task: tasks.Task | None
) -> int | None:
    """Returns the number of classes of the training part, None without any."""
    if task is not None:
        return len(task.classes) if task.kind == "classification" else None
    y = made["train"].y
    if y.dtype != np.int32:
        return None
    count = int(y.max()) + 1
    for part, split in made.items():
        if split.y.min() < 0 or split.y.max() >= count:
            raise files.DataError(
                f"y of {name} must be classes from 0 to {count - 1}, those of train, "
                f"got {split.y.min()} to {split.y.max()} in {part}: number them from 0"
            )
    return count


def _check_shapes(name: str, made: Mapping[str, arrays.Split]) -> None:
    kinds = {
        part: (s.x.dtype.name, s.x.shape[1:], s.y.dtype.name, s.y.shape[1:])
        for part, s in made.items()
    }
    if len(set(kinds.values())) > 1:
        raise _refuse(name, f"parts of several shapes, {kinds}")


def _refuse(name: str, got: str) -> files.DataError:
    return files.DataError(f"{name} must be examples, got {got}: {_ADVICE}")
