"""Dropout whose masks are a function of the step, the layer and the call.

    with tfreg.step_scope(step=optimizer.step):
        first, second = model(x, training=True), model(x, training=True)  # two masks

The traps: random numbers from a state that a resumed run doesn't have, and a second
pass in the same step, as in R-Drop, that repeats the mask of the first.
"""

import sys
import zlib
from typing import Any

import tensorflow as tf

from tfreg import _checks, _tensorflow
from tfreg.collections import scopes
from tfreg.layers import base


class _Block:
    """The random draws in the first pass of a `tf.recompute_grad` call."""

    def __init__(self, key: dict) -> None:
        self.key = key
        self.pairs: list[tuple[int, tf.Tensor, tf.Graph | None]] = []
        self.tape: Any = None
        self.num_read = 0

    def read(self, tape: Any, graph: tf.Graph | None) -> tuple[int, tf.Tensor | None]:
        """Returns the next place, and the step's number if it can be read."""
        if self.tape is not tape:  # One more second pass, of a persistent tape.
            self.tape, self.num_read = tape, 0
        place, number, source = self.pairs[self.num_read]
        self.num_read += 1
        return place, number if source in (None, graph) else None


_blocks: dict[int, _Block] = {}


def _find_block(key: dict) -> _Block:
    if id(key) not in _blocks:
        for other in tuple(_blocks.values()):
            # Without another reference there will be no second pass.
            if sys.getrefcount(other.key) <= 2:
                _blocks.pop(id(other.key), None)
        _blocks[id(key)] = _Block(key)
    return _blocks[id(key)]


def _get_graph(tensors: Any) -> tf.Graph | None:
    flat = tf.nest.flatten(tensors)
    if not flat:
        return scopes.get_graph()
    return None if hasattr(flat[0], "numpy") else flat[0].graph


def _draw_pair(name: str, owner: Any) -> tf.Tensor:
    """Returns the seed of a mask; the second pass of a block repeats the first."""
    graph = scopes.get_graph()
    place, number, first_passes = None, None, []  # type: ignore[var-annotated]
    for key, args, inputs, tape in _list_blocks():
        if scopes.find_trace(_get_graph(inputs)) is not scopes.find_trace(graph):
            break  # A tf.function inside the block has its own draws.
        if tape is None:
            first_passes.append(_find_block(key))
        elif id(key) in _blocks:
            place, number = _blocks[id(key)].read(tape, _get_graph(args))
            break
    if number is None:
        new_place, number = _compute_pair(name, owner, place is None)
        place = new_place if place is None else place
    for block in first_passes:
        block.pairs.append((place, number, graph))  # type: ignore[arg-type]
    return tf.stack([tf.constant(place, tf.int64), number])


def _list_blocks() -> Any:
    # No tape records in the first pass of a block.
    may_be_inside = _blocks or not _tensorflow.is_recording()
    return _tensorflow.list_recomputed() if may_be_inside else ()


def _compute_pair(name: str, owner: Any, is_new: bool) -> tuple[int, tf.Tensor]:
    step = scopes.get_step_number()
    if step is None:
        raise ValueError(
            f"{name} must know the step in training, got none: put the step into "
            "`with tfreg.step_scope(step=optimizer.step):`"
        )
    number, seed = step
    text = f"{seed}/{name}/{scopes.get_replica() or 0}"
    if owner.seed != seed % 2**32:  # A run uses one seed for all.
        text += f"/{owner.seed}"
    count = scopes.count_draw(owner, name) if is_new else 0
    if count:
        text += f"/call {count}"
    # A cast of an int64 variable returns the variable, whose value changes.
    return zlib.crc32(text.encode()), tf.identity(tf.cast(number, tf.int64))


@scopes.do_not_convert
def drop_out(
    inputs: tf.Tensor, rate: float, name: str, owner: Any, noise_shape: Any = None
) -> tf.Tensor:
    """Applies dropout: sets a fraction of the inputs to zero and scales up the others.

    Args:
        inputs: floating, of any shape.
        rate: the fraction, 0 <= rate < 1.
        name: determines the mask, together with the step, the replica and the owner.
        owner: a layer or a model with a `seed`; its calls under this name are counted.
        noise_shape: shape of the mask, broadcast to the inputs; None: their shape.

    Raises:
        ValueError: the step's number is unknown.
    """
    pair = _draw_pair(name, owner)
    # tf.nn.experimental.stateless_dropout has another mask under XLA.
    shape = tf.shape(inputs) if noise_shape is None else noise_shape
    bits = tf.random.stateless_uniform(shape, pair, None, None, tf.uint32, alg="philox")
    least = tf.constant(min(round(rate * 2**32), 2**32 - 1), tf.uint32)
    kept = inputs * tf.constant(1 / (1 - rate), inputs.dtype)
    return tf.where(bits >= least, kept, tf.zeros_like(inputs))


class Dropout(base.Layer):
    """Applies dropout in training.

    The mask is a function of the seed and number of the step, the replica, the seed and
    name of the layer, and the number of earlier calls of the layer in this step and
    trace. So two passes in a step have two masks, and a resumed run repeats them. A
    `tf.while_loop` body, or a tf.function called twice in a step, is traced once: each
    call of a layer in it has the same mask every time. The second pass of
    `tf.recompute_grad` repeats the mask of the first.

    Args:
        rate: fraction of zeros, 0 <= rate < 1; the other inputs are scaled by
            `1 / (1 - rate)`.
        name: name of the layer; determines the mask, together with the step.
        seed: likewise; None: different for each layer, see `tfreg.Store`.

    Raises:
        ValueError: `rate` is out of range.

    Source: Srivastava et al. 2014; `tf.nn.experimental.stateless_dropout`, which is
        slower, and in bfloat16 drops a fraction of 0.008 at a rate of 0.001.
    """

    has_activity = False

    def __init__(
        self, rate: float, name: str | None = None, seed: int | None = None
    ) -> None:
        super().__init__(name, seed)
        self.rate = _checks.check_fraction("rate", rate)

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the inputs; in training, with dropout applied.

        Args:
            inputs: floating tensor or RaggedTensor of any shape.
            training: whether to apply dropout.

        Raises:
            ValueError: in training, the step's number is unknown.
            TypeError: the inputs aren't floating.
        """
        if isinstance(inputs, tf.RaggedTensor):
            return inputs.with_flat_values(self(inputs.flat_values, training))
        inputs = self.check_inputs(inputs, min_rank=0)
        if not training or self.rate == 0:
            return inputs
        return drop_out(inputs, self.rate, self.place, self)
