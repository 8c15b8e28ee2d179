"""A finished run as a model: predictions of raw inputs, evaluation, export.

    runs.train(settings)  # writes runs/a/
    run = tfreg.load_run("runs/a")
    run.predict(dataset.test.x).labels  # [examples]
    run.export("exported/a")  # a SavedModel, with its preprocessing

The trap: inputs that are prepared in another way than those of the training. What that
was is kept with the run, and inputs of another dtype or shape are refused.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.collections import store
from tfreg.runs import builder, config, directories, results
from tfreg.training import batches, files

FORMATS = ("savedmodel", "tflite")
_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run has learnt of its data, in its data.json.

    Attributes:
        shape: of one input.
        dtype: of the inputs as they are in the file.
        pixels: whether they are divided by 255.
        num_classes: None for a regression.
        target_shape: of one target.
    """

    shape: tuple[int, ...]
    dtype: str
    pixels: bool
    num_classes: int | None
    target_shape: tuple[int, ...]

    def to_json(self) -> str:
        """Returns the content of data.json."""
        return results.to_json(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The predictions of several inputs.

    Attributes:
        values: `[examples, classes]` probabilities, or `[examples, ...]` targets.
        labels: `[examples]` classes, None in a regression.
    """

    values: np.ndarray
    labels: np.ndarray | None


def describe_inputs(dataset: data.Dataset) -> Inputs:
    """Returns what is kept of a data set with its run."""
    x, y = dataset.train.x, dataset.train.y
    shapes = x.shape[1:], y.shape[1:]
    kind = x.dtype.name, dataset.train.pixels, dataset.num_classes
    return Inputs(shapes[0], *kind, shapes[1])


def load_run(path: str | os.PathLike) -> "FinishedRun":
    """Returns the model of a run's directory, with its final weights.

    These are the best ones if the run had a patience, and averages if it had any.

    Args:
        path: of the run's directory.

    Raises:
        directories.DirectoryError: the directory isn't a run's, or is of a version that
            kept less.
        manifests.CheckpointError: its checkpoint is missing or damaged.
    """
    path = pathlib.Path(path)
    settings = directories.read_run(path)
    try:
        fields = directories.read_json(path / directories.DATA)
        fields |= {k: tuple(fields[k]) for k in ("shape", "target_shape")}
        inputs = Inputs(**fields)
    except (KeyError, TypeError) as error:
        raise directories.DirectoryError(
            f"a run's data.json must be intact, got {str(path / directories.DATA)!r} "
            f"({error}): train it again"
        ) from None
    with store.Store().as_default():
        return FinishedRun(path, settings, inputs)


class FinishedRun:
    """A run as a model; see `load_run`.

    Attributes:
        path: of its directory.
        settings: its Config.
        inputs: what its inputs are.
        model: with its final weights.
    """

    def __init__(
        self, path: pathlib.Path, settings: config.Config, inputs: Inputs
    ) -> None:
        self.path, self.settings, self.inputs = path, settings, inputs
        x = np.zeros([2, *inputs.shape], inputs.dtype)
        kind = np.float32 if inputs.num_classes is None else np.int32
        few = data.Split(
            x, np.zeros([2, *inputs.target_shape], kind), None, inputs.pixels
        )
        dataset = data.Dataset(settings.dataset, few, few, few, inputs.num_classes)
        # One device, and nothing that depends on the number of examples.
        plain: dict[str, Any] = {
            "strategy": "one",
            "logical_devices": 0,
            "train_examples": None,
        }
        plain |= {"warmup_steps": 0, "batch_size": 2, "accumulate": 1}
        build = dataclasses.replace(settings, **plain)
        self._run = builder.build(build, dataset=dataset, is_new=False)
        trained = builder.make_trainer(self._run)
        trained.restore(path)
        trained.restore_final()
        self.model = self._run.model
        self._predict = tf.function(self._compute, self._make_signature())

    def _make_signature(self) -> list[tf.TensorSpec]:
        shape, dtype = [None, *self.inputs.shape], self.inputs.dtype
        return [tf.TensorSpec(shape, tf.as_dtype(dtype), "inputs")]

    def _compute(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns probabilities and labels, or values, of raw inputs."""
        step = self._run.loop.step
        x = batches.scale_pixels(inputs, self.inputs.pixels)
        x = tf.cast(x, step.dtype) if x.dtype.is_floating else x
        outputs = tf.cast(step.adapted(x, training=False), tf.float32)
        if self.inputs.num_classes is None:
            shape = [-1, *self.inputs.target_shape]
            return {"values": tf.reshape(outputs, shape)}
        labels = tf.argmax(outputs, -1, tf.int32)
        return {"probabilities": tf.nn.softmax(outputs), "labels": labels}

    def predict(self, x: Any) -> Prediction:
        """Returns the predictions of inputs as they are in the file.

        Args:
            x: `[examples, ...]`, an array of the training inputs' dtype and shape, also
                a memory map; it is read in parts.

        Raises:
            ValueError: another dtype or shape.
        """
        values, labels = zip(
            *((part.values, part.labels) for part in self.predict_each(x)), strict=True
        )
        is_class = self.inputs.num_classes is not None
        joined = np.concatenate(labels) if is_class else None
        return Prediction(np.concatenate(values), joined)

    def predict_each(self, x: Any, start: int = 0) -> Iterator[Prediction]:
        """Returns an iterator of the predictions of up to 1,024 inputs each.

        Args:
            x: as for `predict`.
            start: the first input to predict.

        Raises:
            ValueError: as for `predict`.
        """
        return self._iterate(self._check(x), start)

    def _iterate(self, x: np.ndarray, start: int) -> Iterator[Prediction]:
        for first in range(start, len(x), _BATCH):
            part = tf.constant(np.asarray(x[first : first + _BATCH], self.inputs.dtype))
            outputs = {k: v.numpy() for k, v in self._predict(part).items()}
            labels = outputs.pop("labels", None)
            (values,) = outputs.values()
            yield Prediction(values, labels)

    def _check(self, x: Any) -> np.ndarray:
        x = np.asanyarray(x)
        wanted = np.dtype(self.inputs.dtype)
        fits = x.shape[1:] == self.inputs.shape and len(x)
        # Any number may be a float; a whole one of more bits would wrap around.
        is_number = wanted.kind == "f" and x.dtype.kind in "fiu"
        if not fits or not (is_number or x.dtype == wanted):
            raise ValueError(
                f"x must be {wanted} of shape {[None, *self.inputs.shape]}, as in the "
                f"training, got {x.dtype} of {list(x.shape)}: pass the inputs as they "
                "were in the file"
            )
        return x

    def evaluate(self, split: data.Split) -> dict[str, Any]:
        """Returns the loss and the metrics on other data.

        Args:
            split: examples like those of the training.

        Raises:
            ValueError: other parts or shapes than those of the training.
        """
        return results.get_losses(self._run.loop.evaluate(split))

    def export(self, path: str | os.PathLike, format: str = "savedmodel") -> None:
        """Writes the model with its preprocessing; it is loaded without tfreg.

        Its signature has `inputs`, and `probabilities` and `labels` or `values`.

        Args:
            path: of the new directory of a SavedModel, or of the new `.tflite` file.
            format: one of FORMATS.

        Raises:
            ValueError: another format.
            directories.DirectoryError: the path exists.
            OSError: it can't be written.
        """
        path = pathlib.Path(path)
        if format not in FORMATS:
            raise ValueError(
                f"format must be one of {', '.join(FORMATS)}, got {format!r}: choose "
                "one of them"
            )
        if path.exists() or path.is_symlink():
            raise directories.DirectoryError(
                f"the exported model must be new, got {str(path)!r}, which exists: "
                "remove it, or choose another path"
            )
        write = self._write_saved if format == "savedmodel" else self._write_lite
        files.make_directory(path.absolute().parent)
        with (
            tempfile.TemporaryDirectory(dir=path.absolute().parent) as aside,
            files.explain_errors(path, tf.errors.OpError),
        ):
            shutil.move(write(pathlib.Path(aside)), path)

    def _write_saved(self, folder: pathlib.Path) -> pathlib.Path:
        module = tf.Module()
        module.variables_ = list(self._run.loop.step.adapted.variables)
        signature = self._predict.get_concrete_function()
        module.predict = self._predict
        tf.saved_model.save(module, str(folder / "model"), signature)
        return folder / "model"

    def _write_lite(self, folder: pathlib.Path) -> pathlib.Path:
        function = self._predict.get_concrete_function()
        make: Callable = tf.lite.TFLiteConverter.from_concrete_functions
        converted = make([function], self.model).convert()
        (folder / "model.tflite").write_bytes(converted)
        return folder / "model.tflite"
