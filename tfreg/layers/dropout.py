"""Dropout whose masks are a function of the step, the layer and the call.

    with tfreg.step_scope(step=optimizer.step):
        first, second = model(x, training=True), model(x, training=True)  # two masks

The traps: random numbers from a state that a resumed run doesn't have, and a second
pass in the same step, as in R-Drop, that repeats the mask of the first.
"""

import functools
import hashlib
import sys
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg import _checks, _tensorflow
from tfreg.collections import random, scopes
from tfreg.layers import base


class _Draw(NamedTuple):
    """What the keys of a mask are made of.

    Attributes:
        place: a hash of the seed, the owner, the name and the call.
        step: the step's number, int64.
        examples: of `step_scope`: the first in the global batch, and their number.
    """

    place: int
    step: tf.Tensor
    examples: tuple[Any, ...] | None


class _Block:
    """The random draws in the first pass of a `tf.recompute_grad` call."""

    def __init__(self, key: dict) -> None:
        self.key = key
        self.draws: list[tuple[_Draw, tf.Graph | None]] = []
        self.tape: Any = None
        self.num_read = 0

    def read(self, tape: Any, graph: tf.Graph | None) -> tuple[_Draw, bool]:
        """Returns the next draw, and whether its tensors can be read."""
        if self.tape is not tape:  # One more second pass, of a persistent tape.
            self.tape, self.num_read = tape, 0
        draw, source = self.draws[self.num_read]
        self.num_read += 1
        return draw, source in (None, graph)


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


def _draw(name: str, owner: Any) -> _Draw:
    """Returns a draw; the second pass of a block repeats those of the first."""
    graph = scopes.get_graph()
    draw, is_readable, first_passes = None, False, []
    for key, args, inputs, tape in _list_blocks():
        if scopes.find_trace(_get_graph(inputs)) is not scopes.find_trace(graph):
            break  # A tf.function inside the block has its own draws.
        if tape is None:
            first_passes.append(_find_block(key))
        elif id(key) in _blocks:
            draw, is_readable = _blocks[id(key)].read(tape, _get_graph(args))
            break
    if draw is None:
        draw = _make_draw(name, owner, is_new=True)
    elif not is_readable:
        draw = _read_again(draw, _make_draw(name, owner, is_new=False))
    for block in first_passes:
        block.draws.append((draw, graph))
    return draw


def _list_blocks() -> Any:
    # No tape records in the first pass of a block.
    may_be_inside = _blocks or not _tensorflow.is_recording()
    return _tensorflow.list_recomputed() if may_be_inside else ()


def _make_draw(name: str, owner: Any, is_new: bool) -> _Draw:
    step = scopes.get_step_number()
    if step is None:
        raise ValueError(
            f"{name} must know the step in training, got none: put the step into "
            "`with tfreg.step_scope(step=optimizer.step):`"
        )
    number, seed = step
    examples = scopes.get_examples()
    # Without examples only this separates the replicas.
    replica = 0 if examples else scopes.get_replica() or 0
    text = f"{seed}/{name}/{replica}"
    if owner.seed != seed % 2**32:  # A run uses one seed for all.
        text += f"/{owner.seed}"
    count = scopes.count_draw(owner, name) if is_new else 0
    if count:
        text += f"/call {count}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big")
    read = examples and tuple(v if isinstance(v, int) else _read(v) for v in examples)
    return _Draw(place, _read(number), read)


def _read(number: Any) -> tf.Tensor:
    # A cast of an int64 variable returns the variable, whose value changes.
    return tf.identity(tf.cast(number, tf.int64))


def _read_again(draw: _Draw, now: _Draw) -> _Draw:
    """Returns a draw whose tensors can be read in this graph."""
    examples = draw.examples
    if examples and not all(isinstance(v, int) for v in examples):
        examples = now.examples
        if examples is None:
            raise ValueError(
                "examples of step_scope must be readable where tf.recompute_grad "
                "computes again, got tensors of another trace: pass ints, tf.Variables "
                "or None"
            )
    return draw._replace(step=now.step, examples=examples)


def _make_keys(draw: _Draw, num_rows: tf.Tensor, splits: Any) -> tf.Tensor:
    """Returns keys `[num_rows, 2]`, of the rows of this replica's examples."""
    num_rows = tf.cast(num_rows, tf.int64)
    rows = tf.range(num_rows)
    first, count = draw.examples or (0, 1)
    first, count = tf.cast(first, tf.int64), tf.cast(count, tf.int64)
    if splits is None:
        rows += first * (num_rows // tf.maximum(count, 1))
        return random.make_key(draw.place, draw.step, rows)
    splits = tf.cast(splits, tf.int64)
    example = tf.searchsorted(splits[1:], rows, side="right", out_type=tf.int64)
    position = rows - tf.gather(splits, example)
    return random.make_key(draw.place, draw.step, first + example, position)


@scopes.do_not_convert
def drop_out(
    inputs: tf.Tensor,
    rate: float,
    name: str,
    owner: Any,
    noise_shape: Any = None,
    splits: tf.Tensor | None = None,
) -> tf.Tensor:
    """Applies dropout: sets a fraction of the inputs to zero and scales up the others.

    Args:
        inputs: floating, of any shape; the rows `[batch, ...]` have a key each.
        rate: the fraction, 0 <= rate < 1.
        name: determines the mask, together with the step, the example and the owner.
        owner: a layer or a model with a `seed`; its calls under this name are counted.
        noise_shape: shape of the mask, broadcast to the inputs; None: their shape. A
            mask of a first dimension of 1 is the same for all examples.
        splits: `[examples + 1]`, the rows at which the examples of a ragged tensor
            begin; None: each example has as many rows.

    Raises:
        ValueError: the step's number is unknown.
    """
    draw = _draw(name, owner)
    shape = tf.shape(inputs) if noise_shape is None else noise_shape
    dims = tf.convert_to_tensor(shape, tf.int32)
    static = tf.get_static_value(dims)
    leading = None if static is None else static.tolist()[:1]
    if leading == [] or (leading == [1] and noise_shape is not None):
        bits = random.bits(random.make_key(draw.place, draw.step), dims)
    else:
        bits = random.bits(_make_keys(draw, dims[0], splits), dims[1:])
    least = tf.constant(min(round(rate * 2**32), 2**32 - 1), tf.uint32)
    kept = inputs * tf.constant(1 / (1 - rate), inputs.dtype)
    return tf.where(bits >= least, kept, tf.zeros_like(inputs))


def _gather_splits(outer: tf.Tensor, inner: tf.Tensor) -> tf.Tensor:
    return tf.gather(inner, outer)


class Dropout(base.Layer):
    """Applies dropout in training.

    The mask of a row is a function of the seed and number of the step, the index of the
    example in the global batch, the seed and name of the layer, and the number of
    earlier calls of the layer in this step and trace. So two passes in a step have two
    masks, a resumed run repeats them, and any number of replicas has those of one
    device. Where `step_scope` isn't given `examples`, the row and the replica's number
    stand for the index. A `tf.while_loop` body, or a tf.function called twice in a
    step, is traced once: each call of a layer in it has the same mask every time. The
    second pass of `tf.recompute_grad` repeats the mask of the first.

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

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the inputs; in training, with dropout applied.

        Args:
            inputs: floating tensor or RaggedTensor of any shape.
            training: whether to apply dropout.

        Raises:
            ValueError: in training, the step's number is unknown.
            TypeError: the inputs aren't floating.
        """
        splits, is_ragged = None, isinstance(inputs, tf.RaggedTensor)
        values = self.check_inputs(inputs.flat_values if is_ragged else inputs, 0)
        if is_ragged:  # From the examples to the flat values.
            splits = functools.reduce(_gather_splits, inputs.nested_row_splits)
        if training and self.rate != 0:
            values = drop_out(values, self.rate, self.place, self, splits=splits)
        return inputs.with_flat_values(values) if is_ragged else values
