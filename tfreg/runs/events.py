"""Event files of a run, for `tensorboard --logdir runs/`.

    writer = events.Events("runs/a", hparams={"reg": "l2", "scale": 1e-4})
    writer.write_scalars("train", 125, {"loss/data": 0.31})
    writer.close(finished=True)

The trap: hyperparameters with different keys in every run, or of a session that never
ends, can't be compared on the HParams page.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.util import event_pb2

from tfreg import _tensorflow
from tfreg.training import files


class Events:
    """Writes train/, validation/ and the hyperparameters of one run.

    It doesn't raise if a file can't be written: the first failure is logged, and
    nothing more is written.

    Args:
        directory: of the run; it must exist.
        hparams: name -> str, int, float or bool; the same names in every run.
        step: of the checkpoint being resumed; later points are hidden.
        log: called with a message if a file can't be written.
        histograms: whether to write histograms; False for many small runs.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        hparams: Mapping[str, str | float],
        step: int = 0,
        log: Callable[[str], None] = lambda text: None,
        histograms: bool = True,
    ) -> None:
        from tensorboard.plugins.hparams import api as hp

        self._directory = pathlib.Path(directory)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._log = log
        self._histograms = histograms
        _wait_for_later_name(self._directory)
        with self._logging():
            for name in ("", "train", "validation"):
                writer = tf.summary.create_file_writer(str(self._directory / name))
                self._writers[name] = writer
        for name in ("train", "validation"):
            with self._write_to(name, step) as writer:
                if writer is None:
                    continue
                # There is no public purge_step. Without it TensorBoard shows the points
                # after the checkpoint being resumed twice.
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                event = event_pb2.Event(step=step + 1, session_log=start)
                _tensorflow.write_event(writer, event.SerializeToString())
        with self._write_to("", 0):
            hp.hparams(dict(hparams), trial_id=self._directory.name)

    @contextlib.contextmanager
    def _logging(self) -> Iterator[None]:
        """Logs the first failure, and stops writing."""
        try:
            with files.explain_errors(self._directory, tf.errors.OpError):
                yield
        except OSError as error:
            self._writers.clear()
            self._log(f"no more events for TensorBoard: {error}")

    @contextlib.contextmanager
    def _write_to(self, name: str, step: int) -> Iterator[Any]:
        writer = self._writers.get(name)
        if writer is None:
            # A writer that has failed stays TensorFlow's default.
            with tf.summary.record_if(False):
                yield None
            return
        # as_default flushes at its end, and raises errors of writing.
        with self._logging(), writer.as_default(step):
            yield writer

    def write_scalars(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Writes one point for each tag.

        Args:
            name: train or validation.
            step: number of updates so far.
            values: tag -> value.
        """
        with self._write_to(name, step):
            for tag, value in values.items():
                tf.summary.scalar(_shorten(tag), value)

    def write_image(self, step: int, tag: str, image: Any) -> None:
        """Writes one image, `[height, width, channels]`."""
        with self._write_to("train", step):
            tf.summary.image(tag, tf.convert_to_tensor(image)[tf.newaxis])

    def write_text(self, step: int, tag: str, text: str) -> None:
        """Writes a text in Markdown."""
        with self._write_to("train", step):
            tf.summary.text(tag, text)

    def write_histograms(self, step: int, variables: Mapping[str, tf.Variable]) -> None:
        """Writes a histogram of each variable, by its name."""
        if not self._histograms:
            return
        with self._write_to("train", step):
            for name, variable in variables.items():
                tf.summary.histogram(name, variable)

    def close(self, finished: bool) -> None:
        """Writes the end of the session and its status, and closes the files."""
        from tensorboard.plugins.hparams import api_pb2, summary

        status = api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE
        ended = summary.session_end_pb(status)
        with self._write_to("", 0):
            tf.summary.experimental.write_raw_pb(ended.SerializeToString())
        with self._logging():
            for writer in self._writers.values():
                writer.close()

    def sync(self) -> None:
        """Syncs the files to the disk."""
        with self._logging():
            for name in self._writers:
                for path in (self._directory / name).glob("*tfevents*"):
                    files.sync(path)


def _shorten(tag: str) -> str:
    """Returns `penalty/dense_0/kernel/l2` for the name that contrib gives this term."""
    if not tag.startswith("regularization/"):
        return tag
    name, found, kind = tag.partition("/Regularizer/")
    name = name.replace("regularization", "penalty", 1)
    return f"{name}/{kind.replace('_regularizer', '')}" if found else name


def _wait_for_later_name(directory: pathlib.Path) -> None:
    # TensorBoard reads files by name, which begins with the time in seconds.
    times = (path.stat().st_mtime for path in directory.rglob("*tfevents*"))
    latest = max(times, default=0.0)
    if 0 <= time.time() - latest < 2:
        time.sleep(max(0.0, int(latest) + 1 - time.time()))
