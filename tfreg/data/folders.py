"""A data set from a folder of images, one folder for each class.

    dataset = data.load_folder("flowers", size=(32, 32))
    next(dataset.reader.read("flowers/tulip"))  # uint8 [up to 256, 32, 32, 3]

The trap: images of another size or number of channels than those of the training. The
reader resizes and converts them, and goes with the run.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfreg import _checks
from tfreg.data import arrays, files, pictures, splits, tasks

_BATCH = 256
_PARTS = {"train": "train", "validation": "validation", "val": "validation"}
_PARTS |= {"valid": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """Reads images as those of the training.

    Attributes:
        shape: (height, width, channels) of every image.
        task: the classes.
    """

    shape: tuple[int, int, int]
    task: tasks.Task

    def describe(self) -> dict[str, Any]:
        """Returns it in JSON values, of which `make_reader` makes it again."""
        return {"kind": "images", "shape": list(self.shape)}

    def encode(self, x: Any) -> Any:
        """Returns images that are arrays, as they are."""
        return x

    def list_files(self, path: str | os.PathLike) -> list[str]:
        """Returns the paths of the images in a folder and its folders, sorted.

        Raises:
            DataError: the folder can't be read, or has no images.
        """
        root = pathlib.Path(path).expanduser()
        with files.reading(f"folder {os.fsdecode(path)!r}"):
            found = [
                str(p)
                for p in sorted([root] if root.is_file() else root.rglob("*"))
                if p.suffix.lower() in pictures.SUFFIXES and not p.name.startswith(".")
            ]
            for file in found:
                _checks.check_regular(file, files.DataError)
        if not found:
            raise files.DataError(
                f"data must be a folder of images, got none in {str(root)!r}: check "
                "its path"
            )
        return found

    def read(self, path: str | os.PathLike) -> Iterator[np.ndarray]:
        """Returns an iterator of the images in a folder, as `list_files` sorts them.

        Raises:
            DataError: as for `list_files`; or an image can't be decoded.
        """
        found = self.list_files(path)
        source = pictures.make_source(found, self.shape[:2], self.shape[2])
        for start in range(0, len(found), _BATCH):
            rows = range(start, min(start + _BATCH, len(found)))
            yield np.stack([image for image, _ in source.__getitems__(rows)])

    def load(self, path: str | os.PathLike) -> arrays.Split:
        """Returns the images in a folder's folders, with their classes.

        Raises:
            DataError: as for `data.load_images`; or a class is another one.
        """
        classes = [str(name) for name in self.task.classes]
        split = pictures.load_images(path, self.shape[:2], self.shape[2], classes)
        return dataclasses.replace(split, y=_convert(self.task, split.y))

    def make_specs(self) -> list[Any]:
        """Returns the tensor of an exported model's signature."""
        import tensorflow as tf

        return [tf.TensorSpec([None, *self.shape], tf.uint8, "inputs")]

    def compute(self, *tensors: Any) -> Any:
        """Returns the inputs of such a tensor, as they are."""
        return tensors[0]


def make_reader(fields: dict[str, Any], task: tasks.Task) -> ImageReader:
    """Returns the reader that `describe` described."""
    height, width, channels = fields["shape"]
    return ImageReader((height, width, channels), task)


def load_folder(
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    task: str = "auto",
    split: str = _checks.SPLIT,
    split_seed: int = 0,
    reader: ImageReader | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> arrays.Dataset:
    """Returns the images in the folders of their classes, in three parts.

    Args:
        path: of a folder of a folder for each class; or of the folders `train`,
            `test` and perhaps `validation` (or `val`) of those.
        size: (height, width) that every image is resized to; None: they have one size.
        task: `auto`, `classification`, or `binary` for two classes.
        split: fractions of training, validation and test, drawn by `split_seed`, of a
            folder without parts; of `train` and `validation`, where only that is
            missing.
        split_seed: int >= 0.
        reader: of an earlier training; None: made of this one.
        log: called with what isn't as it seems.

    Raises:
        DataError: as for `data.load_images`; or the folders don't fit.
        ValueError: `split` isn't three fractions.
    """
    fractions = _checks.parse_split(split)
    if isinstance(fractions, str) or task not in ("auto", "classification", "binary"):
        raise ValueError(
            "a folder of images must have classes and fractions, got "
            f"task={task!r} and split={split!r}: leave them out"
        )
    root = os.path.expanduser(os.fsdecode(path))
    folders = _find_parts(root) or {"train": root}
    shape = reader and reader.shape
    options = (shape[:2] if shape else size, shape[2] if shape else 3)
    names = [str(n) for n in reader.task.classes] if reader else None
    first = pictures.images(folders["train"], *options, names)
    names = list(first.classes)
    loaded = {p: pictures.load_images(f, *options, names) for p, f in folders.items()}
    if reader is None:
        reader = ImageReader(first.shape, _decide(root, names, task))
    sizes = {part: len(images) for part, images in loaded.items()}
    made = {}
    for part, (given, rows) in splits.complete(sizes, fractions, split_seed).items():
        whole = loaded[given]
        x = whole.x if len(rows) == len(whole) else whole.x[rows]
        y = _convert(reader.task, whole.y[rows])
        made[part] = arrays.Split(x, y, pixels=True)
    count = len(names) if reader.task.kind == "classification" else None
    name = os.path.basename(os.path.abspath(root))
    return arrays.Dataset(
        name, **made, num_classes=count, task=reader.task, reader=reader
    )


def _decide(root: str, names: list[str], task: str) -> tasks.Task:
    kind = "binary" if task == "binary" else "classification"
    if len(names) < 2 or (kind == "binary" and len(names) > 2):
        raise files.DataError(
            f"folder {root!r} must have {'two' if kind == 'binary' else 'several'} "
            f"classes, got {len(names)}: {', '.join(names)[:200]}"
        )
    return tasks.Task(kind, (), tuple(names))


def _find_parts(root: str) -> dict[str, str]:
    """Returns the folders of the parts by their names, if the folder has them."""
    with files.reading(f"folder {root!r}"):
        folders = [e.name for e in os.scandir(root) if e.is_dir()]
    folders = [name for name in folders if not name.startswith(".")]
    found = {_PARTS[n.lower()]: n for n in folders if n.lower() in _PARTS}
    if "train" not in found or "test" not in found:
        return {}
    return {
        name: os.path.join(root, found[name]) for name in splits.NAMES if name in found
    }


def _convert(task: tasks.Task, y: np.ndarray) -> np.ndarray:
    return y[:, np.newaxis].astype(np.float32) if task.kind == "binary" else y
