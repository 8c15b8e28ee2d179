"""The data of a run: loaded by its Config, and what is kept of them in its data.json.

    dataset = inputs.load(settings)
    kept = inputs.describe(dataset)
    inputs.load(settings, known=kept)  # encoded as before, whatever the rows are now

The trap: data that are encoded by what is learnt of them again. A run that is resumed,
evaluated or asked for predictions uses what its training part has said.
"""

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfreg import data
from tfreg.data import folders, frames, returned, tables, tasks
from tfreg.runs import calls, config, directories, own, results

_OF_TABLES = ("target", "drop", "group", "text", "features", "image_size")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run has learnt of its data, in its data.json.

    Attributes:
        shape: of one input.
        dtype: of the inputs, as they are in the file of arrays.
        pixels: whether they are divided by 255.
        num_classes: None without classes, or with one output for two.
        target_shape: of one target.
        task: what is learnt.
        reader: reads other data as those of the training; None: they are arrays.
        digest: of the test examples of a reader, to notice that they changed.
        source: sha256 of the file of a model of one's own, likewise.
    """

    shape: tuple[int, ...]
    dtype: str
    pixels: bool
    num_classes: int | None
    target_shape: tuple[int, ...]
    task: tasks.Task = tasks.Task("classification")
    reader: Any = None
    digest: int | None = None
    source: str | None = None

    def to_json(self) -> str:
        """Returns the content of data.json."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        reader = self.reader and self.reader.describe()
        described = {"task": dataclasses.asdict(self.task), "reader": reader}
        return results.to_json(values | described)


def describe(dataset: data.Dataset) -> Inputs:
    """Returns what is kept of a data set with its run."""
    x, y = dataset.train.x, dataset.train.y
    digest = None
    if dataset.reader is not None:
        test = dataset.test  # `train_examples` leaves it as it is.
        digest = zlib.crc32(test.y.tobytes(), zlib.crc32(test.x.tobytes()))
    return Inputs(
        x.shape[1:],
        x.dtype.name,
        dataset.train.pixels,
        dataset.num_classes,
        y.shape[1:],
        get_task(dataset),
        dataset.reader,
        digest,
    )


def get_task(dataset: data.Dataset) -> tasks.Task:
    """Returns the task of a data set, also of one that has no name for it."""
    if dataset.task is not None:
        return dataset.task
    return tasks.Task("classification" if dataset.num_classes else "regression")


def read(path: pathlib.Path) -> Inputs:
    """Returns what is kept of the data of the run in a directory.

    Raises:
        directories.DirectoryError: it can't be read.
    """
    try:
        fields = directories.read_json(path / directories.DATA)
        fields |= {k: tuple(fields[k]) for k in ("shape", "target_shape")}
        # Runs of an earlier version have none.
        kind = "classification" if fields["num_classes"] else "regression"
        task = tasks.make_task(fields.pop("task", {"kind": kind}))
        reader = fields.pop("reader", None)
        make = {"table": tables.make_reader, "images": folders.make_reader}
        known = reader and make[reader["kind"]](reader, task)
        return Inputs(**fields, task=task, reader=known)
    except (AttributeError, KeyError, TypeError) as error:
        raise directories.DirectoryError(
            f"a run's data.json must be intact, got {str(path / directories.DATA)!r} "
            f"({error}): train it again"
        ) from None


def load(
    settings: config.Config,
    log: Callable[[str], None] = lambda text: None,
    known: Inputs | None = None,
) -> data.Dataset:
    """Returns the data set of a Config, with all its examples.

    Args:
        settings: of the run.
        log: called with what isn't as it seems in the data.
        known: what the run has kept of its data, if it has begun.

    Raises:
        data.DataError: the data can't be read, or don't fit the task.
    """
    if settings.data is None or calls.names_function(settings.data):
        dataset = _load_arrays(settings, log)
        if dataset.task is None:
            dataset = _convert_targets(dataset, settings.task, log)
        if settings.data is not None and dataset.train.y.ndim == 2:
            scaled = tasks.scale(get_task(dataset), dataset.train.y)
            dataset = dataclasses.replace(dataset, task=scaled)
        return _weigh(dataset, settings.class_weights)
    dataset = _load_file(settings, known.reader if known else None, log)
    if known and describe(dataset).digest != known.digest:
        log(
            f"the examples of {settings.data!r} aren't those that the run was trained "
            "on: its parts for training and test may be others"
        )
    return _weigh(dataset, settings.class_weights)


def _load_arrays(settings: config.Config, log: Callable[[str], None]) -> data.Dataset:
    """Returns the data set of a name, or of a function of one's own."""
    if settings.data is None:
        return data.load(settings.dataset, settings.data_dir)
    _refuse_others(settings, "a function", _OF_TABLES)
    value = own.find("data", settings.data)(settings)
    drawn = settings.task, settings.split, settings.split_seed, log
    keeps_ids = calls.is_own(settings.model)
    return returned.make_dataset(settings.data, value, *drawn, keeps_ids)


def _refuse_others(settings: config.Config, kind: str, names: Sequence[str]) -> None:
    """Raises a DataError if a flag is given that data of a kind don't have."""
    for name in names:
        if value := getattr(settings, name):
            value = ",".join(value) if isinstance(value, tuple) else value
            raise data.DataError(
                f"{name} must not be used with {kind}, got {value!r} with "
                f"{settings.data!r}: leave it out"
            )


def _load_file(
    settings: config.Config, reader: Any, log: Callable[[str], None]
) -> data.Dataset:
    """Returns the data set of a file or folder, read by what was learnt or anew."""
    path = settings.data or ""
    parts = settings.split, settings.split_seed, reader, log
    is_folder = os.path.isdir(os.path.expanduser(path))
    if is_folder:
        _refuse_others(settings, "a folder of images", _OF_TABLES[:-1])
        return data.load_folder(path, settings.get_image_size(), settings.task, *parts)
    if path.endswith(".npz"):
        raise data.DataError(
            f"arrays must be dataset='npz' without {', '.join(config.OF_FILES)}, got "
            f"data={path!r}: leave those out, or write data_dir={path!r}"
        )
    if not frames.is_table(path):
        raise data.DataError(
            f"data must be a folder of images, module:function, or a file with one of "
            f"{', '.join(frames.SUFFIXES)}, got {path!r}: check its path, or convert it"
        )
    _refuse_others(settings, "a table", ("image_size",))
    table = path, settings.target, settings.task, settings.drop, settings.group
    return data.load_table(*table, *parts, settings.text, settings.features)


def _weigh(dataset: data.Dataset, weights: str) -> data.Dataset:
    """Returns the data set with weights of the training examples, if any are asked for.

    Raises:
        DataError: the task has no classes.
    """
    if weights == "none":
        return dataset
    task, train = get_task(dataset), dataset.train
    if task.kind not in ("classification", "binary"):
        raise data.DataError(
            f"class_weights must be used with classes, got a {task.kind}: leave it out"
        )
    weighed = dataclasses.replace(train, weights=tasks.balance(train.y))
    return dataclasses.replace(dataset, train=weighed)


def _convert_targets(
    dataset: data.Dataset, kind: str, log: Callable[[str], None]
) -> data.Dataset:
    """Returns a data set of arrays for a task that its targets don't say.

    `auto` changes nothing, and says what is in doubt.

    Raises:
        DataError: the targets don't fit the task.
    """
    y = dataset.train.y
    has_all = len(np.unique(y)) == dataset.num_classes
    is_plain = has_all if kind == "classification" else dataset.num_classes is None
    if kind in ("classification", "regression") and is_plain:
        return dataset
    if y.ndim > 2:
        if kind == "auto":
            return dataset
        raise data.DataError(
            f"y must be [examples] or [examples, outputs] for --task={kind}, got "
            f"{list(y.shape)}: leave --task out"
        )
    if kind == "auto":
        for doubt in _list_doubts(dataset):
            log(doubt)
        return dataset
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    columns = {name: _name_columns(split.y) for name, split in splits.items()}
    task, _ = tasks.decide(columns["train"], kind)
    made = {
        name: dataclasses.replace(split, y=tasks.encode(task, columns[name]))
        for name, split in splits.items()
    }
    count = len(task.classes) if kind == "classification" else None
    return dataclasses.replace(dataset, **made, num_classes=count, task=task)


def _name_columns(y: np.ndarray) -> dict[str, np.ndarray]:
    if y.ndim == 1 or y.shape[1] == 1:
        return {"y": y.ravel()}
    return {f"y_{i}": column for i, column in enumerate(y.T)}


def _list_doubts(dataset: data.Dataset) -> list[str]:
    """Returns what the arrays may be instead of what they are taken for."""
    y, x = dataset.train.y, dataset.train.x
    doubts = []
    if dataset.num_classes is not None:
        unique = np.unique(y)
        if len(unique) < dataset.num_classes:
            doubts = [
                f"y_train has {len(unique)} of the {dataset.num_classes} classes from "
                f"0 to {dataset.num_classes - 1}: write --task=classification for "
                "outputs of those alone, --task=regression for amounts"
            ]
    elif np.all(y == np.floor(y)):
        is_one_hot = y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all()
        is_one_hot = is_one_hot and bool(np.all(y.sum(1) == 1))
        what = "one-hot" if is_one_hot else "whole numbers, stored as floats"
        doubts = [
            f"y_train is {what}: it is regressed; write --task=classification if they "
            "are classes"
        ]
    is_table = x.ndim == 2 and x.dtype.kind == "f" and x.max(initial=0) > 255
    if is_table and x.min() >= 0 and np.all(x == np.floor(x)):
        doubts.append(
            f"x_train holds whole numbers up to {x.max():g}, as ids of tokens do: they "
            "are used as amounts"
        )
    return doubts
