"""Steps on one device as two XLA programs: a step, and a block of known length.

    report = trained.train(0)
    trained.blocks.length  # 0: too few steps to compile a block

A call of any number of steps is blocks of that length and single steps. The traps: a
loop that runs to an argument, for which XLA on a GPU asks the host after every step
whether to go on; values that are computed in the loop and never read; a program for
each number of steps, each compiled for seconds.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfreg.training import compiling, feeding, reports

MOST_STEPS = 500  # In a call, which can't be interrupted.
FEW_STEPS = 500  # Made one by one: a shorter training doesn't repay compiling.
FAST = 20.0  # Steps a second: the call of a slower one costs next to nothing.


class Blocks:
    """Runs the steps of a call, and chooses the length of a block.

    Args:
        run: (source, i, size, epoch) -> losses and update of step i.
        strategy: of one replica.

    Attributes:
        length: number of steps of a block; 0 where none is compiled.
        rest: of a second one, for a last call that is shorter; 0: single steps.
    """

    def __init__(
        self,
        run: Callable[..., tuple[reports.Losses, reports.Update]],
        strategy: tf.distribute.Strategy,
    ) -> None:
        self.length = self.rest = 0
        self._run, self._strategy = run, strategy
        self._num_steps = 0  # Of all calls.
        self._num_full = 1  # Full batches in the examples that are held at once.
        self._step = self._compile(self.run_step)
        self._block = self._compile(self.run_block)

    def _compile(self, function: Callable) -> Any:
        compiled = compiling.trace(function, jit_compile=True)
        run = functools.partial(self._strategy.run, compiled)
        return compiling.trace(lambda *args: run(args))

    def limit(self, speed: float, steps_per_call: int | None) -> int:
        """Returns the number of steps in the next call, unless it is the last.

        Args:
            speed: largest number of steps in a second so far.
            steps_per_call: the number, if it is given.
        """
        most = steps_per_call or min(max(int(speed), 1), MOST_STEPS)
        if self._num_steps < FEW_STEPS:
            return steps_per_call or min(most, FEW_STEPS)
        # Single steps are called more often, and seem slower than they are.
        wanted = steps_per_call or min(2 * most, MOST_STEPS)
        # Compiled again only for a block that is much longer.
        if speed >= FAST and wanted >= 2 * self.length:
            # Calls of equal length leave few single steps.
            num_calls = -(-self._num_full // wanted)
            steps = steps_per_call or self._num_full // num_calls
            self.length = max(self.length, min(steps, self._num_full))
            rest = self._num_full % self.length
            self.rest = rest if rest > 100 else 0
        return steps_per_call or self.length or most

    def __call__(
        self, call: feeding.Call, epoch: tf.Tensor, sums: reports.Sums
    ) -> tuple[reports.Losses, reports.Update, reports.Sums]:
        """Updates the model `call.stop - call.start` times.

        Args:
            call: of examples on the device.
            epoch: int64 scalar, for the augmentation.
            sums: over the examples so far.

        Returns:
            The last step's losses and update, and the sums.
        """
        held, i = call.data, call.start
        for length in (self.length, self.rest, 1):
            while 0 < length <= call.stop - i:
                args = held, call.size, epoch, tf.constant(i), sums
                run = self._step if length == 1 else self._block
                more = () if length == 1 else (length,)
                losses, update, sums = run(*args, *more)
                i += length
        self._num_steps += call.stop - call.start
        rows = tf.nest.flatten(held.arrays)[0].shape[0]
        self._num_full = max(self._num_full, rows // held.stride)
        return losses, update, sums

    def run_step(
        self, source: Any, size: int, epoch: tf.Tensor, i: tf.Tensor, sums: reports.Sums
    ) -> tuple[reports.Losses, reports.Update, reports.Sums]:
        """Updates the model by step i, and reports everything."""
        losses, update = self._run(source, i, size, epoch)
        return losses, update, reports.add_losses(sums, losses)

    def run_block(
        self,
        source: Any,
        size: int,
        epoch: tf.Tensor,
        start: tf.Tensor,
        sums: reports.Sums,
        length: int,
    ) -> tuple[reports.Losses, reports.Update, reports.Sums]:
        """Updates the model by `length` steps from `start`, and reports the last."""

        def body(k: tf.Tensor, sums: reports.Sums) -> tuple[tf.Tensor, reports.Sums]:
            # XLA removes the values of the report that aren't used.
            losses, _ = self._run(source, start + k, size, epoch)
            return k + 1, reports.add_losses(sums, losses)

        _, sums = tf.while_loop(lambda k, _: k < length - 1, body, [0, sums])
        # Outside the loop, which would compute what only the last step reports.
        return self.run_step(source, size, epoch, start + length - 1, sums)
