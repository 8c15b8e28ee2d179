"""What several workers agree on: what they were started with, the state, a signal.

    strategy = tfreg.training.strategies.make_strategy("one")
    agreement.gather(strategy, {"seed": 0})  # [{"seed": 0}], one of each worker

All workers call each function, at the same point of their programs. The trap: a worker
that reads its own disk, or stops by itself, while the others train something else or
wait for it forever.
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def has_several(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether other processes train with the same strategy."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def gather(strategy: tf.distribute.Strategy, value: Any) -> list[Any]:
    """Returns the value of each worker, the chief's first.

    Args:
        strategy: of the training.
        value: of this worker, in JSON values.
    """
    if not has_several(strategy):
        return [value]
    characters = tf.constant(list(f"{json.dumps(value)}\n".encode()), tf.int32)
    gathered = _make(strategy)(characters)
    lines = bytes(gathered.numpy().astype(np.uint8)).decode().splitlines()
    # Each of a worker's replicas has sent it.
    own = lines[:: len(strategy.extended.worker_devices)]
    return list(map(json.loads, own))


@functools.cache
def _make(strategy: tf.distribute.Strategy) -> Callable:
    """Returns a function (vector) -> the vectors of all replicas, in one."""

    def gather(vector: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.identity(vector), 0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def run(vector: tf.Tensor) -> tf.Tensor:
        values = strategy.run(gather, (vector,))
        return strategy.experimental_local_results(values)[0]

    return run


class Watch:
    """A function that is true on all workers where `is_interrupted` is on one.

    Args:
        strategy: of the training.
        is_interrupted: returns the number of the signal, or whether to stop.

    Attributes:
        worker: number of the worker that was interrupted; None: the only process.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, is_interrupted: Callable[[], int]
    ) -> None:
        self._strategy, self._is_interrupted = strategy, is_interrupted
        self.worker: int | None = None

    def __call__(self) -> int:
        numbers = gather(self._strategy, int(self._is_interrupted()))
        if len(numbers) > 1 and any(numbers):
            self.worker = numbers.index(max(numbers))
        return max(numbers)


def broadcast(
    strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]
) -> None:
    """Gives the variables of all workers the values of the chief's, to the bit.

    Args:
        strategy: of the training.
        variables: the same number, of the same shapes and dtypes on each worker.
    """
    if not has_several(strategy):
        return

    def add(vectors: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        is_chief = tf.equal(context.replica_id_in_sync_group, 0)
        sent = [tf.where(is_chief, vector, 0) for vector in vectors]
        return context.all_reduce(tf.distribute.ReduceOp.SUM, sent)

    arrays = [variable.numpy() for variable in variables]
    # Sums of whole numbers, which keep a NaN and the sign of a zero.
    words = [_to_words(array) for array in arrays]
    summed = tf.function(lambda vectors: strategy.run(add, (vectors,)))(words)
    for variable, array, vector in zip(variables, arrays, summed, strict=True):
        own = strategy.experimental_local_results(vector)[0].numpy().tobytes()
        value = np.frombuffer(own[: array.nbytes], array.dtype).reshape(array.shape)
        variable.assign(value)


def _to_words(array: Any) -> tf.Tensor:
    text = np.asarray(array).tobytes()
    return tf.constant(np.frombuffer(text + bytes(-len(text) % 4), np.int32))
