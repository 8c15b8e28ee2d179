"""Rows for training, validation and test: drawn by a seed, by groups, or given.

    splits.draw(100, (0.8, 0.1, 0.1), seed=0)  # {"train": [80], "validation": ...}

The trap: rows of one patient in the training and in the test set. Groups stay together.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from tfreg import _checks
from tfreg.data import arrays, files

NAMES = ("train", "validation", "test")


def draw(
    count: int,
    fractions: Sequence[float],
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the sorted rows of each part, which depend on the arguments alone.

    Args:
        count: number of rows.
        fractions: of training, validation and test.
        seed: int >= 0.
        groups: a value for each row; rows of one value are in one part.

    Raises:
        DataError: fewer rows or groups than parts.
    """
    values = np.arange(count)
    if groups is not None:
        places = {value: i for i, value in enumerate(dict.fromkeys(groups))}
        values = np.array([places[value] for value in groups])
    sizes = np.bincount(values)
    if len(sizes) < len(NAMES):
        what = "rows" if groups is None else "groups"
        raise files.DataError(
            f"data must have {len(NAMES)} {what} or more, one for each part, got "
            f"{len(sizes)}: add {what}"
        )
    # The test set first: other fractions of validation leave it as it is.
    order = arrays.permute(len(sizes), seed, 0)
    total = np.cumsum(sizes[order])
    ends, start = [], 0
    for i, fraction in enumerate((fractions[2], fractions[1])):
        goal = count * fraction + (total[start - 1] if start else 0)
        most = len(sizes) - len(NAMES) + i + 1
        start = min(max(start + 1, int(np.searchsorted(total, goal - 0.5)) + 1), most)
        ends.append(start)
    part = np.zeros(len(sizes), np.int8)
    part[order[: ends[0]]], part[order[ends[0] : ends[1]]] = 2, 1
    return {name: np.flatnonzero(part[values] == i) for i, name in enumerate(NAMES)}


def complete(
    sizes: Mapping[str, int], fractions: Sequence[float], seed: int
) -> dict[str, tuple[str, np.ndarray]]:
    """Returns every part's rows, drawn of the training part where it isn't given.

    Args:
        sizes: number of rows of each part that is given, `train` among them.
        fractions: of training, validation and test, of which those of the parts that
            are drawn count.
        seed: int >= 0.

    Returns:
        Part -> the given part that has its rows, and their numbers.

    Raises:
        DataError: as for `draw`.
    """
    missing = [name for name in NAMES if name not in sizes]
    rows = {"train": np.arange(sizes["train"])}
    if len(missing) == 2:
        rows = draw(sizes["train"], fractions, seed)
    elif missing:
        # What is drawn for the other part, of as many rows, stays in training.
        fraction = fractions[NAMES.index(missing[0])]
        share = fraction / (fractions[0] + fraction)
        others = (1 - share) * 0.5
        parts = {"train": others, "validation": others, "test": others}
        drawn = draw(sizes["train"], [*(parts | {missing[0]: share}).values()], seed)
        chosen = drawn.pop(missing[0])
        rows = {"train": np.sort(np.concatenate([*drawn.values()])), missing[0]: chosen}
    given = {name: (name, np.arange(sizes[name])) for name in NAMES if name in sizes}
    made = given | {name: ("train", part) for name, part in rows.items()}
    return {name: made[name] for name in NAMES}


def take(names: Sequence[str], column: str) -> dict[str, np.ndarray]:
    """Returns the rows of each part as a column names them.

    Args:
        names: train, validation or test for each row.
        column: the column's name, for messages.

    Raises:
        DataError: another name, or a part without rows.
    """
    texts = np.array([str(name) for name in names], object)
    rows = {name: np.flatnonzero(texts == name) for name in NAMES}
    wrong = ~np.isin(texts, NAMES)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise files.DataError(
            f"`{column}` must hold {', '.join(NAMES)}, got {texts[row]!r} in row "
            f"{row + 1}: mend it, or write --split={_checks.SPLIT}"
        )
    for name, part in rows.items():
        if not len(part):
            raise files.DataError(
                f"`{column}` must have rows of {', '.join(NAMES)}, got none of {name}: "
                "add some"
            )
    return rows
