"""Sentences as bags of words, by Keras's TextVectorization.

    sentences = ["A fine house.", "A cheap house, fine", ""]
    words = texts.learn(sentences)  # ("house", "fine", "a", "cheap")
    texts.encode(words, ["A castle"])  # float32 [1, 5]: others, and "a"

The trap: a vocabulary of all rows, those of the test set among them. It is kept with
the run, and an exported model has it inside.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_WORDS = 2000
_BATCH = 4096


def learn(texts: Sequence[str]) -> tuple[str, ...]:
    """Returns the MOST_WORDS most frequent words, the most frequent one first.

    Args:
        texts: sentences, lower-cased and split at spaces, without punctuation.
    """
    import tensorflow as tf

    layer = _make((), MOST_WORDS + 1)  # One output is for the others.
    parts = (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH))
    with tf.device("CPU:0"):
        layer.adapt(tf.constant(part, tf.string) for part in parts)
    return tuple(layer.get_vocabulary(include_special_tokens=False))


def encode(words: tuple[str, ...], texts: Sequence[str]) -> np.ndarray:
    """Returns which words are in each text, `[texts, 1 + words]` float32, 0 or 1.

    Args:
        words: of `learn`; the first output is for all others.
        texts: sentences.
    """
    import tensorflow as tf

    outputs = np.zeros([len(texts), 1 + len(words)], np.float32)
    layer = make_layer(words)
    with tf.device("CPU:0"):
        for start in range(0, len(texts), _BATCH):
            part = tf.constant(texts[start : start + _BATCH], tf.string)
            outputs[start : start + _BATCH] = layer(part)
    return outputs


@functools.lru_cache(maxsize=16)
def make_layer(words: tuple[str, ...]) -> Any:
    """Returns a Keras layer that does what `encode` does; it has a table of the words.

    Args:
        words: of `learn`.
    """
    import tensorflow as tf

    with tf.init_scope():  # Also in the graph of an exported model.
        return _make(words, None)


def _make(words: tuple[str, ...], most: int | None) -> Any:
    import keras

    vocabulary = list(words) or None
    return keras.layers.TextVectorization(
        most, output_mode="multi_hot", vocabulary=vocabulary
    )
