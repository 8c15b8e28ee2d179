"""A data set from a table: CSV or Parquet in, what was learnt of it kept.

    dataset = data.load_table("houses.csv", ["price"])
    dataset.reader.encode(frame)  # new rows, as those of the training

The trap: an encoding that is learnt again from other rows, for example of the file to
predict. The reader keeps that of the training rows, and goes with the run.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from tfreg import _checks
from tfreg.data import arrays, encoding, files, frames, splits, tasks, texts


@dataclasses.dataclass(frozen=True)
class TableReader:
    """Reads tables like that of the training.

    Attributes:
        columns: the inputs, with what they have learnt.
        task: what is learnt of them.
        features: of a TFRecord file, as for `features.parse`.
    """

    columns: tuple[encoding.Column, ...]
    task: tasks.Task
    features: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Returns it in JSON values, of which `make_reader` makes it again."""
        columns = list(map(dataclasses.asdict, self.columns))
        return {"kind": "table", "columns": columns, "features": self.features}

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are read as texts: also classes that are."""
        names = [column.name for column in self.columns if column.is_text]
        has_texts = bool(self.task.classes) and isinstance(self.task.classes[0], str)
        named = self.task.targets if has_texts and len(self.task.targets) == 1 else ()
        return (*names, *named)

    def encode(self, rows: Any) -> np.ndarray:
        """Returns the inputs of a pandas frame or a dict of columns."""
        return encoding.encode(self.columns, frames.to_frame(rows))

    def read(self, path: str | os.PathLike) -> Iterator[np.ndarray]:
        """Returns an iterator of the inputs in a file, in parts.

        Raises:
            DataError: the file can't be read, or lacks a column.
        """
        names = [column.name for column in self.columns]
        first = 0
        options = {"columns": names, "features": self.features}
        for frame in frames.read(path, self.texts, **options):
            yield encoding.encode(self.columns, frame, first=first)
            first += len(frame)

    def load(self, path: str | os.PathLike) -> arrays.Split:
        """Returns all rows of a file with their targets.

        Raises:
            DataError: as for `read`; or a class is another one.
        """
        frame = frames.read_all(path, self.texts, self.task.targets, self.features)
        targets = read_targets(frame, self.task.targets)
        x = encoding.encode(self.columns, frame)
        return arrays.Split(x, tasks.encode(self.task, targets))

    def make_specs(self) -> list[Any]:
        """Returns the tensors of an exported model's signature."""
        return encoding.make_specs(self.columns)

    def compute(self, *tensors: Any) -> Any:
        """Returns the inputs of such tensors, in a graph."""
        return encoding.compute(self.columns, tensors)

    def list_layers(self) -> list[Any]:
        """Returns the Keras layers that `compute` calls, whose tables are saved."""
        return [texts.make_layer(c.words) for c in self.columns if c.words is not None]


def make_reader(fields: dict[str, Any], task: tasks.Task) -> TableReader:
    """Returns the reader that `describe` described."""
    columns = tuple(map(encoding.make_column, fields["columns"]))
    return TableReader(columns, task, tuple(fields.get("features", ())))


def load_table(
    path: str | os.PathLike,
    target: Sequence[str],
    task: str = "auto",
    drop: Collection[str] = (),
    group: str | None = None,
    split: str = _checks.SPLIT,
    split_seed: int = 0,
    reader: TableReader | None = None,
    log: Callable[[str], None] = lambda text: None,
    sentences: Sequence[str] = (),
    features: Sequence[str] = (),
) -> arrays.Dataset:
    """Returns the rows of a table in three parts, as numbers.

    Args:
        path: a file with one of `frames.SUFFIXES`.
        target: names of the columns to learn; of several columns each is an output.
        task: one of `tasks.KINDS`; `auto`: as for `tasks.decide`.
        drop: names of columns to ignore.
        group: name of a column whose equal values stay in one part, and which is no
            input.
        split: fractions of training, validation and test, drawn by `split_seed`; or
            the name of a column with the texts train, validation and test.
        split_seed: int >= 0.
        reader: what an earlier training has learnt; None: it is learnt of the rows of
            the training part.
        log: called with what isn't as it seems: missing values, doubts on the task.
        sentences: names of columns of sentences, which become bags of words.
        features: what a TFRecord file holds, each `name:dtype` or `name:dtype[28x28]`.

    Returns:
        Splits of x float32 `[rows, width]`, with the reader and the task.

    Raises:
        DataError: the file can't be read; a column, value or class doesn't fit.
        ValueError: `split` isn't as above.
    """
    parts = _checks.parse_split(split)
    read_as_texts = reader.texts if reader else sentences
    keep = [*target, group or ""]
    frame = frames.read_all(path, read_as_texts, keep, features)
    given = parts if isinstance(parts, str) else None
    others = [*drop, *sentences, *filter(None, (group, given))]
    _check_columns(path, frame, target, others)
    targets = read_targets(frame, target)
    rows = _divide(frame, parts, split_seed, group)
    decided = reader.task if reader else tasks.choose(targets, task, log)
    y = tasks.encode(decided, targets)
    if reader is None:
        unused = [*target, *drop, *filter(None, (group, given))]
        names = _list_inputs(path, frame, unused, log)
        known = encoding.learn(frame, names, rows["train"], log, sentences)
        scaled = tasks.scale(decided, y[rows["train"]])
        reader = TableReader(known, scaled, tuple(features))
    made = {}
    for part, chosen in rows.items():
        x = encoding.encode(reader.columns, frame, rows=chosen)
        made[part] = arrays.Split(x, y[chosen])
    is_softmax = reader.task.kind == "classification"
    num_classes = len(reader.task.classes) if is_softmax else None
    name = pathlib.Path(os.fsdecode(path)).name.partition(".")[0]
    return arrays.Dataset(
        name, **made, num_classes=num_classes, task=reader.task, reader=reader
    )


def _divide(
    frame: Any,
    parts: str | tuple[float, float, float],
    seed: int,
    group: str | None,
) -> dict[str, np.ndarray]:
    """Returns the rows of each part, given by a column or drawn."""
    if isinstance(parts, str):
        return splits.take(frame[parts], parts)
    groups = None if group is None else frame[group].tolist()
    return splits.draw(len(frame), parts, seed, groups)


def read_targets(frame: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the target columns as NumPy arrays.

    Raises:
        DataError: a column isn't there, or a value is missing or infinite.
    """
    targets = {}
    for name in names:
        if name not in frame:
            raise files.DataError(
                f"data must have the target `{name}`, got only "
                f"{', '.join(map(str, frame.columns))}: add it"
            )
        column = frame[name]
        missing = column.isna().to_numpy()
        if missing.any():
            raise files.DataError(
                f"the target `{name}` must not be missing, got none in row "
                f"{int(np.argmax(missing)) + 1}: fill it in, or leave the row out"
            )
        if frames.is_number(column.dtype):
            if column.dtype.kind == "f":
                encoding.to_numbers(name, column)  # Finite also in float32.
            targets[name] = column.to_numpy()
        else:
            encoding.check_texts(name, column)
            targets[name] = column.astype(object).to_numpy()
    return targets


def _check_columns(
    path: Any, frame: Any, target: Sequence[str], others: Sequence[str]
) -> None:
    known = ", ".join(map(str, frame.columns))
    if not target:
        raise files.DataError(
            f"{os.fsdecode(path)!r} must have a target, got none: write --target= and "
            f"one of {known:.300}"
        )
    for name in (*target, *others):
        if name not in frame:
            raise files.DataError(
                f"{os.fsdecode(path)!r} must have the column {name!r}, got only "
                f"{known:.300}: name one of them"
            )


def _list_inputs(
    path: Any, frame: Any, unused: Sequence[str], log: Callable[[str], None]
) -> list[str]:
    taken = {*unused, *_list_numbering(frame, log)}
    names = [str(name) for name in frame if name not in taken]
    if not names:
        raise files.DataError(
            f"{os.fsdecode(path)!r} must have columns to learn from, got none "
            "beside those that are the target or dropped: drop fewer"
        )
    return names


def _list_numbering(frame: Any, log: Callable[[str], None]) -> list[str]:
    """Returns the columns without a name that only number the rows."""
    found = []
    for name in frame:
        if str(name).startswith("Unnamed:") and frames.is_number(frame[name].dtype):
            steps = np.diff(frame[name].to_numpy(np.float64))
            if len(steps) and np.all(steps == 1):
                log(f"`{name}` numbers the rows: it is no input")
                found.append(str(name))
    return found
