"""Images in folders of their classes, decoded when they are read or all at once.

    from tfreg.data import pictures

    pictures.SUFFIXES  # ('.bmp', '.gif', '.jpeg', '.jpg', '.png')
    # data.Indexed(data.images("train")); data.load_images("train")

The trap: eight Python threads that decode small images are slower than one, since they
wait for each other. One call of TensorFlow for a batch is four times as fast.
"""

import functools
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfreg import _checks
from tfreg.data import arrays, files, indexed

if TYPE_CHECKING:
    import tensorflow as tf

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


class _Images:
    """What `images` returns.

    Attributes:
        paths: of the images, sorted by class and name.
        labels: their classes, `[examples]` int32.
        classes: the names of the classes, in the order of their numbers.
        shape: (height, width, channels) of every image.
        pixels: True: an Indexed of it scales them as Split's pixels.
    """

    pixels = True

    def __init__(
        self,
        listed: tuple[list[str], np.ndarray, tuple[str, ...]],
        size: tuple[int, int] | None,
        channels: int,
    ) -> None:
        self.channels = channels
        self.size = size
        self.paths, self.labels, self.classes = listed
        shape = (*size, channels) if size else self._decode(self.paths[0]).shape
        self.shape: tuple[int, ...] = shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.int32]:
        image = self._decode(self.paths[row])
        if image.shape != self.shape:
            raise files.DataError(
                f"{self.paths[row]!r} must be of shape {self.shape} as "
                f"{self.paths[0]!r}, got {image.shape}: pass size=(height, width)"
            )
        return image, self.labels[row]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[np.ndarray, np.int32]]:
        import tensorflow as tf

        try:
            with tf.device("CPU:0"):
                batch = self._decode_all(tf.constant([self.paths[i] for i in rows]))
        except tf.errors.OpError:
            return [self[row] for row in rows]  # Raises the error of one of them.
        return list(zip(batch.numpy(), self.labels[list(rows)], strict=True))

    @functools.cached_property
    def _decode_all(self) -> "tf.types.experimental.GenericFunction":
        import tensorflow as tf

        def decode(path: "tf.Tensor") -> "tf.Tensor":
            return tf.ensure_shape(self._read(path), self.shape)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def decode_all(paths: "tf.Tensor") -> "tf.Tensor":
            spec = tf.TensorSpec(self.shape, tf.uint8)
            # The default, 10 at a time, would leave cores idle.
            return tf.map_fn(
                decode, paths, parallel_iterations=64, fn_output_signature=spec
            )

        return decode_all

    def _decode(self, path: str) -> np.ndarray:
        import tensorflow as tf

        try:
            with tf.device("CPU:0"):
                return self._read(tf.constant(path)).numpy()
        except tf.errors.OpError as error:
            text = re.sub(r"\{\{.*?\}\}|\[Op:.*|^.*?; ", "", error.message)
            raise files.DataError(
                f"{path!r} must be an image, got {' '.join(text.split())[:200]}: "
                "replace it, or move it elsewhere"
            ) from error

    def _read(self, path: "tf.Tensor") -> "tf.Tensor":
        """Returns uint8 `[height, width, channels]`."""
        import tensorflow as tf

        image = tf.io.decode_image(
            tf.io.read_file(path), self.channels, expand_animations=False
        )
        if self.size is None:
            return image
        image.set_shape([None, None, self.channels])
        resized = tf.image.resize(image, self.size, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def images(
    folder: str | os.PathLike,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    classes: Sequence[str] | None = None,
) -> Any:
    """Returns a source of the images in a folder's folders, each named after a class.

    An image is `folder/CLASS/NAME` with one of SUFFIXES. Other files, deeper folders
    and names that start with a dot are ignored.

    Args:
        folder: the folder of the classes' folders.
        size: (height, width) that every image is resized to (bilinear, antialiased);
            None: they must have one size.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA).
        classes: the names in the order of their numbers; None: sorted. Pass those of
            the training images for a folder that lacks some.

    Returns:
        A source for Indexed, of examples (uint8 `[height, width, channels]`, int32
        class), with the attributes `paths`, `labels`, `classes` and `shape`.

    Raises:
        ValueError: `size` or `channels` isn't as above.
        DataError: the folder can't be read, has no images or another class, or the
            first image can't be decoded. Reading an image that can't be decoded, or has
            another size, raises it with the path.
    """
    if channels not in (1, 3, 4):
        raise ValueError(
            f"channels must be 1, 3 or 4, got {channels!r}: write 3 for RGB"
        )
    if size is not None:
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise ValueError(
                f"size must be (height, width), got {size!r}: write (224, 224)"
            )
        height, width = (_checks.check_int("size", value) for value in size)
        size = height, width
    return _Images(_list_images(folder, classes), size, channels)


def make_source(paths: Sequence[str], size: tuple[int, int], channels: int) -> Any:
    """Returns a source of images by their paths, all of class 0.

    Args:
        paths: of the images.
        size: as for `images`.
        channels: likewise.
    """
    listed = list(paths), np.zeros(len(paths), np.int32), ("",)
    return _Images(listed, size, channels)


def load_images(
    folder: str | os.PathLike,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    classes: Sequence[str] | None = None,
) -> arrays.Split:
    """Decodes the images in a folder's folders into memory, as uint8 pixels.

    Args:
        folder: as for `images`.
        size: likewise.
        channels: likewise.
        classes: likewise.

    Raises:
        ValueError: as for `images`.
        DataError: likewise; or the images take more than `files.LIMIT` bytes.
    """
    source = images(folder, size, channels, classes)
    needed = len(source) * int(np.prod(source.shape))
    if needed > files.LIMIT:
        raise files.DataError(
            f"folder must hold images of up to {files.LIMIT} bytes, got {needed}: "
            "write Indexed(images(folder))"
        )
    x, y = indexed.Indexed(source).fetch(np.arange(len(source)))
    return arrays.Split(x, y, pixels=True)


def _list_images(
    folder: str | os.PathLike, classes: Sequence[str] | None
) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    with files.reading(f"folder {folder!r}"):
        root = os.path.expanduser(os.fsdecode(folder))
        names = sorted(
            entry.name
            for entry in os.scandir(root)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        parts = {
            name: sorted(
                os.path.join(root, name, file)
                for file in os.listdir(os.path.join(root, name))
                if file.lower().endswith(SUFFIXES) and not file.startswith(".")
            )
            for name in names
        }
    unknown = [name for name in names if name not in (classes or names)]
    if unknown or not any(parts.values()):
        allowed = f"folders of {', '.join(classes)}" if unknown and classes else ""
        raise files.DataError(
            f"folder {root!r} must hold {allowed or 'a folder of images per class'}, "
            f"got {', '.join(unknown) or 'no images'}: check its path"
        )
    order = tuple(classes or names)
    paths = [path for name in order for path in parts.get(name, ())]
    for path in paths:
        _checks.check_regular(path, files.DataError)
    counts = [len(parts.get(name, ())) for name in order]
    return paths, np.repeat(np.arange(len(order), dtype=np.int32), counts), order
