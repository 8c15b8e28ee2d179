"""Batches of a tf.data pipeline that a seed and an epoch determine.

    def make(seed, epoch):
        rows = tf.data.Dataset.from_tensor_slices((x, y))
        return rows.shuffle(6, seed=hash((seed, epoch)) % 2**31).batch(2)

    pipeline = data.Pipeline(make)

The trap: `shuffle` without a seed. A resumed run reads other batches, and no error says
so. Pipeline compares the first batch of two equal calls.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfreg import _checks
from tfreg.data import arrays, files

if TYPE_CHECKING:
    import tensorflow as tf


class Pipeline:
    """Batches from tf.data: padded, ragged, or of whatever tf.data can read.

    Args:
        make: `make(seed, epoch)` returns a tf.data.Dataset of batches `(x, y)` or
            `(x, y, weights)`, each a nest of tensors. Equal arguments must give equal
            batches: a seed for every `shuffle`, stateless random operations,
            `deterministic=True`. Only the first batch is checked, which is read twice.
        steps: batches of an epoch, int >= 1; None: as many as the dataset says it has.

    Attributes:
        steps: batches of an epoch.
        spec: `element_spec` of the dataset.

    Raises:
        TypeError: `make` isn't a function that returns a dataset of such tuples.
        ValueError: the number of batches isn't known, or less than `steps`; an element
            is an example, not a batch; or two calls gave different batches.
    """

    def __init__(
        self,
        make: Callable[[int, int], "tf.data.Dataset"],
        steps: int | None = None,
    ) -> None:
        example = "lambda seed, epoch: dataset"
        self.make = _checks.check_function("make", make, example)
        dataset = self._make(0, 0)
        self.spec = dataset.element_spec
        _check_spec(self.spec)
        self.steps = _count_steps(int(dataset.cardinality()), steps)
        _check_repeatable(dataset, self._make(0, 0))

    def __repr__(self) -> str:
        return f"Pipeline({arrays.show(self.spec)}, {self.steps} steps)"

    def open(self, seed: int, epoch: int, start: int = 0) -> "tf.data.Dataset":
        """Returns the batches of an epoch from one of them on.

        Skipping reads what it skips: `make` runs for each batch before `start`.

        Args:
            seed: handed to `make`.
            epoch: handed to `make`.
            start: batches to skip, int from 0 to `steps`.

        Returns:
            A dataset of `steps - start` batches; fewer where it ends early.

        Raises:
            ValueError: `start` isn't as above.
            DataError: the batches have other structures, shapes or dtypes than `spec`.
        """
        import tensorflow as tf

        start = _checks.check_int("start", start, 0, self.steps)
        dataset = self._make(seed, epoch)
        if dataset.element_spec != self.spec:
            raise files.DataError(
                f"make({seed}, {epoch}) must return batches of {self.spec}, got "
                f"{dataset.element_spec}: make every epoch alike"
            )
        return dataset.skip(start).take(self.steps - start).prefetch(tf.data.AUTOTUNE)

    def _make(self, seed: int, epoch: int) -> "tf.data.Dataset":
        import tensorflow as tf

        dataset = self.make(seed, epoch)
        if not isinstance(dataset, tf.data.Dataset):
            raise TypeError(
                f"make(seed, epoch) must return a tf.data.Dataset, got a "
                f"{type(dataset).__name__}: return the dataset of the epoch's batches"
            )
        return dataset


def _check_spec(spec: Any) -> None:
    import tensorflow as tf

    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise TypeError(
            "make(seed, epoch) must return a dataset of tuples (x, y) or (x, y, "
            f"weights), got {spec!r:.200}: map it to one"
        )
    for leaf in tf.nest.flatten(spec):
        if getattr(leaf, "shape", tf.TensorShape(None)).rank == 0:
            raise ValueError(
                f"make(seed, epoch) must return batches, got a scalar in {spec!r:.200}"
                ": end it with .batch(size)"
            )


def _count_steps(cardinality: int, steps: int | None) -> int:
    """Returns the batches of an epoch; `cardinality` < 0 is infinite or unknown."""
    if steps is not None:
        steps = _checks.check_int("steps", steps)
    elif cardinality < 0:
        kind = "an infinite" if cardinality == -1 else "an unknown"
        raise ValueError(
            f"steps must be given for {kind} number of batches, got None: pass steps="
        )
    if cardinality == 0 or 0 <= cardinality < (steps or 0):
        raise ValueError(
            f"make(seed, epoch) must return {steps or 'some'} batches, got "
            f"{cardinality}: {'lower steps' if cardinality else 'check its source'}"
        )
    return cardinality if steps is None else steps


def _check_repeatable(*datasets: "tf.data.Dataset") -> None:
    import tensorflow as tf

    batches = []
    for dataset in datasets:
        batch = tf.nest.flatten(list(dataset.take(1)), expand_composites=True)
        batches.append([tf.io.serialize_tensor(value).numpy() for value in batch])
    if not batches[0]:
        raise ValueError(
            "make(seed, epoch) must return some batches, got 0: check its source"
        )
    if batches[0] != batches[1]:
        raise ValueError(
            "make(seed, epoch) must return the same batches for the same arguments, "
            "got two different first ones: pass a seed to shuffle and to every random "
            "operation"
        )
