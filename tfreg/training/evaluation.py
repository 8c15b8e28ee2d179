"""Sums over every example of a source, many batches in one compiled loop.

    loss = trained.evaluate(dataset.test).loss

The traps: a last batch that is dropped; a loop whose length XLA doesn't know, for which
it asks the host after each batch on a GPU whether to go on.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfreg.training import compiling, feeding, recovery, reports


class Evaluation:
    """Evaluates sources; compiled at the first one of each shape.

    Args:
        forward: (batch, whether its uint8 inputs are pixels) -> sums over its examples.
        zeros: sums over no examples.
        xla: whether XLA compiles the loop over held examples; the others are read by a
            graph, batch by batch, which also evaluates a last smaller batch.
    """

    def __init__(self, forward: Callable, zeros: reports.Sums, xla: bool) -> None:
        self._forward, self._zeros, self._xla = forward, zeros, xla
        self._held = compiling.trace(self.run, jit_compile=xla)
        self._streamed = compiling.trace(self.run)

    def __call__(self, feed: feeding.Feed) -> reports.Sums:
        """Returns the sums over all examples of a feed's source.

        Raises:
            data.DataError: a batch can't be read.
        """
        is_held = feeding.is_indexed(feed.source)
        sums, pixels = self._zeros, getattr(feed.source, "pixels", False)
        for call in feed.list_calls(None):
            size, count = call.size, call.stop - call.start
            # A rest is a single batch: it would take longer to compile than to run.
            known = self._xla and is_held and count > 1
            run = self._held if known else self._streamed
            # In XLA the size of a batch and the number of batches are static.
            static = (count, size) if known else (tf.constant(count), tf.constant(size))
            args = call.data, tf.constant(call.start), *static, pixels
            with recovery.explain_reading():
                sums = reports.to_numpy(run(*args, reports.to_tensors(sums)))
        return sums

    def run(
        self,
        source: Any,
        start: tf.Tensor,
        count: Any,
        size: Any,
        pixels: bool,
        sums: reports.Sums,
    ) -> reports.Sums:
        """Adds the sums over the examples of `count` batches from `start`."""

        def body(k: tf.Tensor, sums: reports.Sums) -> tuple[tf.Tensor, reports.Sums]:
            batch, _ = feeding.take(source, start + k, 0, size)
            return k + 1, reports.add(sums, self._forward(batch, pixels))

        return tf.while_loop(lambda k, _: k < count, body, [0, sums])[1]
