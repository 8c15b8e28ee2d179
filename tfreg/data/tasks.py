"""What is learnt of a data set: classes, one of two, several labels, or numbers.

    columns = {"species": np.array(["cat", "dog", "cat"])}
    task, doubts = tasks.decide(columns, "auto")
    y = tasks.encode(task, columns)  # [0, 1, 0]
    tasks.describe(task, y)  # classification of `species`: 2 classes, ...

The trap: class labels that are stored as floats or one-hot, and train a regression
without a word. What is decided is said, and where it is in doubt, which flag decides.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfreg.data import files

KINDS = ("classification", "binary", "multilabel", "regression")
MOST_CODES = 20  # Different whole numbers that may be classes.
_MOST_CLASSES = 1000
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learnt.

    Attributes:
        kind: one of KINDS.
        targets: names of the target columns, () where they have none.
        classes: names of the classes in the order of their numbers, () where they
            have none but their numbers; of `binary` two.
        mean: of each target of a regression whose outputs are scaled, else ().
        scale: likewise, its standard deviation.
    """

    kind: str
    targets: tuple[str, ...] = ()
    classes: tuple[str | int, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def get_names(self, num_classes: int | None) -> list[str]:
        """Returns the names of the classes or labels, their numbers if they have none.

        Args:
            num_classes: number of classes of a classification.
        """
        if self.kind in ("multilabel", "regression"):
            return list(self.targets)
        count = 2 if self.kind == "binary" else num_classes or 0
        return [str(name) for name in self.classes or range(count)]


def make_task(fields: Mapping[str, Any]) -> Task:
    """Returns the Task of its fields as JSON has them."""
    known: dict[str, Any] = {
        name: value if isinstance(value, str) else tuple(value)
        for name, value in fields.items()
    }
    return Task(**known)


def decide(columns: Mapping[str, np.ndarray], kind: str) -> tuple[Task, list[str]]:
    """Returns the task of target columns, and what is in doubt, in sentences.

    Args:
        columns: name -> `[examples]` numbers, bools or texts, without missing ones.
        kind: one of KINDS; `auto`: what the values say. Texts, bools and up to
            MOST_CODES different whole numbers are classes, other numbers are
            regressed, and several columns of 0 and 1 are labels.

    Raises:
        DataError: the values don't fit the kind.
    """
    names = tuple(columns)
    if len(names) > 1:
        return _decide_several(columns, kind)
    (name,), (values,) = names, columns.values()
    is_number = values.dtype.kind in "iuf"
    whole = is_number and bool(np.all(values == np.floor(values)))
    unique = _list_unique(values)
    doubts: list[str] = []
    if kind == "auto":
        kind, doubts = _guess(name, values, unique, whole)
    if kind == "regression":
        if not is_number:
            raise _refuse(name, "numbers to regress", repr(unique[0]), "classification")
        return Task(kind, names), doubts
    if kind == "multilabel":
        _check_labels(columns)
        return Task(kind, names), doubts
    if is_number and not whole:
        got = next(v for v in unique if v != int(v))
        raise _refuse(name, "whole numbers or texts as classes", got, "regression")
    wanted = "two classes" if kind == "binary" else "two classes or more"
    if len(unique) < 2 or (kind == "binary" and len(unique) > 2):
        raise _refuse(name, wanted, f"{len(unique)}: {_list(unique)}", "auto")
    if len(unique) > _MOST_CLASSES:
        most = f"at most {_MOST_CLASSES:,} classes"
        raise _refuse(name, most, f"{len(unique):,} different values", "regression")
    classes = tuple(int(v) if is_number else str(v) for v in unique)
    return Task(kind, names, classes), doubts


def choose(
    columns: Mapping[str, np.ndarray], kind: str, log: Callable[[str], None]
) -> Task:
    """Returns the task that `decide` returns, and logs what is in doubt.

    Args:
        columns: as for `decide`.
        kind: as for `decide`.
        log: called with each doubt.

    Raises:
        DataError: as for `decide`.
    """
    task, doubts = decide(columns, kind)
    for doubt in doubts:
        log(doubt)
    return task


def _guess(
    name: str, values: np.ndarray, unique: Sequence[Any], whole: bool
) -> tuple[str, list[str]]:
    classes = "binary" if len(unique) == 2 else "classification"
    if values.dtype.kind not in "iuf":
        return classes, []
    if not whole:
        return "regression", []
    if values.dtype.kind == "f" or len(unique) > MOST_CODES:
        kind = "floats that are whole numbers" * (values.dtype.kind == "f")
        return "regression", [
            f"`{name}` holds {kind or f'{len(unique):,} different whole numbers'}, "
            f"{_list(unique)}: they are regressed; write --task=classification if they "
            "are classes"
        ]
    if list(unique) == list(range(len(unique))):
        return classes, []
    return classes, [
        f"`{name}` holds the whole numbers {_list(unique)}: they are {len(unique)} "
        "classes; write --task=regression if they are amounts"
    ]


def _decide_several(
    columns: Mapping[str, np.ndarray], kind: str
) -> tuple[Task, list[str]]:
    names, doubts = tuple(columns), []
    for name, values in columns.items():
        if values.dtype.kind not in "iufb":
            got = repr(values[0])
            raise _refuse(name, "numbers beside other targets", got, "auto")
    labels = all(np.isin(values, (0, 1)).all() for values in columns.values())
    counts = np.sum([values.astype(np.int64) for values in columns.values()], 0)
    one_hot = labels and bool(np.all(counts == 1))
    if kind == "auto":
        kind = "regression"
        if labels:
            kind = "classification" if one_hot else "multilabel"
            what = "one 1" if one_hot else "any number of 1s"
            doubts = [
                f"{_list(names)} are columns of 0 and 1 with {what} in each row: they "
                f"are {'classes' if one_hot else 'labels'}; write --task=regression "
                f"or --task={'multilabel' if one_hot else 'classification'} if they "
                "are not"
            ]
    if kind == "multilabel":
        _check_labels(columns)
    elif kind != "regression" and not (one_hot and kind == "classification"):
        row = int(np.argmax(counts != 1)) + 1
        wanted = "one-hot, one 1 in each row, for classes"
        raise _refuse(names[0], wanted, f"others in row {row}", "multilabel")
    return Task(kind, names, names if kind == "classification" else ()), doubts


def _check_labels(columns: Mapping[str, np.ndarray]) -> None:
    for name, values in columns.items():
        wrong = ~np.isin(values, (0, 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            got = f"{values[row]!r} in row {row + 1}"
            raise _refuse(name, "0 and 1 as labels", got, "auto")


def encode(task: Task, columns: Mapping[str, np.ndarray], first: int = 0) -> np.ndarray:
    """Returns targets as they are trained on.

    Args:
        task: of the training.
        columns: name -> `[examples]`, as for `decide`.
        first: the number of the first row, for messages.

    Returns:
        `[examples]` int32 classes of a classification; `[examples, 1]` float32, 0 or 1,
        of a binary one; `[examples, targets]` float32 of others.

    Raises:
        DataError: a class isn't one of the training's.
    """
    arrays = [columns[name] for name in task.targets]
    if task.kind in ("multilabel", "regression") or len(arrays) > 1:
        y = np.stack([values.astype(np.float32) for values in arrays], 1)
        return y.argmax(1).astype(np.int32) if task.kind == "classification" else y
    places = {name: i for i, name in enumerate(task.classes)}
    convert: Callable = int if isinstance(task.classes[0], int) else str
    values = arrays[0].tolist()
    try:
        y = np.array([places[convert(value)] for value in values], np.int32)
    except (KeyError, ValueError):
        known = [str(name) for name in task.classes]
        row = next(i for i, v in enumerate(values) if not _is_known(v, places, convert))
        raise files.DataError(
            f"`{task.targets[0]}` must be a class of the training, {_list(known)}, got "
            f"{values[row]!r} in row {first + row + 1}: mend it, or train again"
        ) from None
    return y[:, np.newaxis].astype(np.float32) if task.kind == "binary" else y


def _is_known(value: Any, places: Mapping[Any, int], convert: Callable) -> bool:
    try:
        return convert(value) in places
    except ValueError:
        return False


def describe(task: Task, y: np.ndarray, num_classes: int | None = None) -> str:
    """Returns the task in a line, with the numbers of examples of the classes.

    Args:
        task: the task.
        y: targets of the training examples, as of `encode`.
        num_classes: of a classification whose classes have no names.
    """
    of = f" of {_list(task.targets)}" if len(task.targets) == 1 else ""
    if task.kind == "regression":
        outputs = int(np.prod(y.shape[1:]))
        return f"regression{of}, {outputs} output{'s' * (outputs > 1)}"
    if task.kind == "multilabel":
        low, high = y.mean(0).min(), y.mean(0).max()
        return (
            f"multilabel classification: {len(task.targets)} labels "
            f"({_list(task.targets)}), of {low:.0%} to {high:.0%} of the training "
            "examples"
        )
    counts = np.bincount(y.astype(np.int64).ravel(), minlength=num_classes or 2)
    names = task.get_names(len(counts))
    if task.kind == "binary":
        return (
            f"binary classification{of}: {counts[0]:,} training examples of "
            f"{names[0]}, {counts[1]:,} of {names[1]}"
        )
    each = f"{counts.min():,} to {counts.max():,}"
    each = f"{counts.max():,}" if counts.min() == counts.max() else each
    return f"classification{of}: {len(names)} classes, {each} training examples each"


def balance(y: np.ndarray) -> np.ndarray:
    """Returns weights that give every class the same sum, `[examples]` float32.

    Args:
        y: classes, as of `encode`.

    Source: `sklearn.utils.class_weight.compute_sample_weight("balanced", y)`.
    """
    classes = y.astype(np.int64).ravel()
    counts = np.bincount(classes)
    weights = len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights[classes].astype(np.float32)


def scale(task: Task, y: np.ndarray) -> Task:
    """Returns a regression's task with the means and scales of its targets.

    Args:
        task: of any kind; others are returned as they are.
        y: targets of the training examples, `[examples, targets]`.
    """
    if task.kind != "regression":
        return task
    mean = np.asarray(np.mean(y, 0, np.float64))
    spread = np.asarray(np.std(y, 0, np.float64))
    spread = np.where(spread > np.abs(mean) * 1e-6, spread, 1.0)
    return dataclasses.replace(
        task,
        mean=tuple(mean.astype(np.float32).tolist()),
        scale=tuple(spread.astype(np.float32).tolist()),
    )


def _list_unique(values: np.ndarray) -> list[Any]:
    """Returns the different values, sorted; texts by their letters."""
    if values.dtype.kind in "iuf":
        return np.unique(values).tolist()
    return sorted({str(value) for value in dict.fromkeys(values.tolist())})


def _list(names: Sequence[Any]) -> str:
    shown = [f"`{n}`" if isinstance(n, str) else f"{n:g}" for n in names[:_SHOWN]]
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + more


def _refuse(name: str, wanted: str, got: Any, task: str) -> files.DataError:
    return files.DataError(
        f"the target `{name}` must be {wanted}, got {got}: write --task={task}, or "
        "another --target"
    )
