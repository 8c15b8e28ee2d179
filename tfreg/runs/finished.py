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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import _checks, data
from tfreg.collections import store
from tfreg.runs import builder, config, directories, inputs, results, serving
from tfreg.training import files

FORMATS = ("savedmodel", "tflite")


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The predictions of several inputs.

    Attributes:
        values: `[examples, classes]` probabilities, of `multilabel` those of the
            labels; or `[examples, ...]` targets.
        labels: `[examples]` classes, by the names that they have in a table;
            `[examples, labels]` of 0 and 1 for `multilabel`; None in a regression.
    """

    values: np.ndarray
    labels: np.ndarray | None

    def __repr__(self) -> str:
        values, labels = self.values, self.labels
        shown = "" if labels is None else f", labels={labels.dtype}{list(labels.shape)}"
        return f"Prediction(values={values.dtype}{list(values.shape)}{shown})"


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
    kept = inputs.read(path)
    with store.Store().as_default():
        return FinishedRun(path, settings, kept)


class FinishedRun(_checks.Guide):
    """A run as a model; see `load_run`.

    Attributes:
        path: of its directory.
        settings: its Config.
        inputs: what its inputs are.
        model: with its final weights.
    """

    def __init__(
        self, path: pathlib.Path, settings: config.Config, kept: inputs.Inputs
    ) -> None:
        self.path, self.settings, self.inputs = path, settings, kept
        x = np.zeros([2, *kept.shape], kept.dtype)
        kind = np.float32 if kept.num_classes is None else np.int32
        y = np.zeros([2, *kept.target_shape], kind)
        few = data.Split(x, y, None, kept.pixels)
        dataset = data.Dataset(
            settings.dataset, few, few, few, kept.num_classes, kept.task, kept.reader
        )
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
        spec = tf.TensorSpec([None, *kept.shape], tf.as_dtype(kept.dtype), "inputs")
        self._predict = tf.function(self._compute, [spec])

    def __repr__(self) -> str:
        kind, task = type(self.model).__name__, self.inputs.task.kind
        return f"FinishedRun({str(self.path)!r}, {kind}, {task})"

    def _compute(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving.compute(self._run.loop.step, self.inputs, x)

    def predict(self, x: Any) -> Prediction:
        """Returns the predictions of inputs as they are in the file.

        Args:
            x: of a run on a table a pandas frame, or a dict of columns, whose target
                isn't needed; otherwise `[examples, ...]`, an array of the training
                inputs' dtype and shape, also a memory map, which is read in parts.

        Raises:
            ValueError: another dtype or shape; or no such column (a DataError).
        """
        return self._join(self.predict_each(x))

    def _join(self, parts: Iterable[Prediction]) -> Prediction:
        pairs = [(part.values, part.labels) for part in parts]
        values, labels = zip(*pairs, strict=True)
        is_class = self.inputs.task.kind != "regression"
        return Prediction(
            np.concatenate(values), np.concatenate(labels) if is_class else None
        )

    def predict_each(self, x: Any, start: int = 0) -> Iterator[Prediction]:
        """Returns an iterator of the predictions of up to 1,024 inputs each.

        Args:
            x: as for `predict`.
            start: the first input to predict.

        Raises:
            ValueError: as for `predict`.
        """
        if self.inputs.reader is not None:
            x = self.inputs.reader.encode(x)
        return self._iterate(self._check(x), start)

    def predict_file(
        self, path: str | os.PathLike, start: int = 0
    ) -> Iterator[Prediction]:
        """Returns an iterator of the predictions of the inputs in a file.

        Args:
            path: of a file like that of the training; it is read in parts.
            start: the first input to predict.

        Raises:
            data.DataError: the file can't be read, or lacks a column.
        """
        first = 0
        for x in self.inputs.reader.read(path):
            yield from self._iterate(x, min(max(start - first, 0), len(x)))
            first += len(x)

    def _iterate(self, x: np.ndarray, start: int) -> Iterator[Prediction]:
        classes = self.inputs.task.classes
        for first in range(start, len(x), serving.BATCH):
            part = np.asarray(x[first : first + serving.BATCH], self.inputs.dtype)
            if (wrong := ~np.isfinite(part)).any():
                raise data.DataError(
                    "x must be finite, got NaN or infinity in "
                    f"{data.arrays.locate(wrong, first=first)}: fill it in"
                )
            outputs = self._predict(tf.constant(part))
            outputs = {k: v.numpy() for k, v in outputs.items()}
            labels = outputs.pop("labels", None)
            labels = np.array(classes)[labels] if classes else labels
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

    def evaluate(self, source: data.Split | str | os.PathLike) -> dict[str, Any]:
        """Returns the loss and the metrics on other data.

        Args:
            source: examples like those of the training; or the path of a file with
                them and their targets, as of a run on a table.

        Raises:
            ValueError: other parts or shapes than those of the training.
            data.DataError: the file can't be read, or lacks a column.
        """
        if isinstance(source, str | os.PathLike):
            if self.inputs.reader is None:
                raise ValueError(
                    f"source must be a Split for a run on arrays, got {source!r}: pass "
                    "tfreg.data.Split(x, y)"
                )
            source = self.inputs.reader.load(source)
        return results.get_losses(self._run.loop.evaluate(source))

    def export(self, path: str | os.PathLike, format: str = "savedmodel") -> None:
        """Writes the model with its preprocessing; it is loaded without tfreg.

        Its signature has `inputs`, or an input `[rows]` for each column of a table:
        float32 or, for categories, text, by the column's name with _ for what isn't a
        letter or digit. It returns `probabilities` and `labels`, or `values`; a label
        is the number of its class, whose names a SavedModel returns as `names`.

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

    def _serve(self, has_texts: bool) -> Any:
        """Returns the exported function."""
        reader, classes = self.inputs.reader, self.inputs.task.classes
        if reader is None:
            return self._predict

        def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = self._compute(reader.compute(*tensors))
            if classes and has_texts:  # TFLite returns numbers alone.
                names = tf.constant([str(name) for name in classes])
                outputs["names"] = tf.gather(names, outputs["labels"])
            return outputs

        return tf.function(serve, reader.make_specs())

    def _write_saved(self, folder: pathlib.Path) -> pathlib.Path:
        module = tf.Module()
        module.variables_ = list(self._run.loop.step.adapted.variables)
        module.predict = self._serve(has_texts=True)
        if hasattr(self.inputs.reader, "list_layers"):
            module.layers_ = self.inputs.reader.list_layers()
        signature = module.predict.get_concrete_function()
        tf.saved_model.save(module, str(folder / "model"), signature)
        return folder / "model"

    def _write_lite(self, folder: pathlib.Path) -> pathlib.Path:
        columns = getattr(self.inputs.reader, "columns", ())
        if words := [c.name for c in columns if c.words is not None]:
            raise ValueError(
                "format must be savedmodel for a run on sentences, got 'tflite' for "
                f"`{words[0]}`: TFLite can't split texts into words"
            )
        function = self._serve(has_texts=False).get_concrete_function()
        make: Callable = tf.lite.TFLiteConverter.from_concrete_functions
        converted = make([function], self.model).convert()
        (folder / "model.tflite").write_bytes(converted)
        return folder / "model.tflite"
