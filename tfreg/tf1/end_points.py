"""slim's end points: the outputs that layers collect, by the layer's name.

    net = tf1.layers.conv2d(images, 8, 3, outputs_collections="end_points")
    net = tf1.layers.collect_named_outputs("end_points", "scaled", 2.0 * net)
    end_points = tf1.layers.convert_collection_to_dict("end_points")

The trap: a TF1 graph keeps them for ever. Here they end with the step, or in eager code
outside a step with the forward pass; so convert them in the forward function.
"""

from collections.abc import Hashable
from typing import Any

import tensorflow as tf

from tfreg.collections import store
from tfreg.tf1 import collecting


def append_tensor_alias(tensor: tf.Tensor, alias: str) -> tf.Tensor:
    """Adds a name to those of a tensor in `convert_collection_to_dict`; returns it.

    Source: `tf.contrib.layers.utils.append_tensor_alias`.
    """
    aliases = getattr(tensor, "aliases", [])
    # An eager tensor may be the same in each pass.
    tensor.aliases = [*dict.fromkeys([*aliases, alias.removesuffix("/")])]
    return tensor


def collect_named_outputs(collections: Any, alias: str, outputs: tf.Tensor) -> Any:
    """Adds outputs under a name to collections; returns the outputs.

    Args:
        collections: a key or a list of keys; None: the outputs aren't collected.
        alias: their name in `convert_collection_to_dict`.
        outputs: a tensor.

    Source: `tf.contrib.layers.utils.collect_named_outputs`.
    """
    if collections:
        append_tensor_alias(outputs, alias)
        collecting.add_to_collections(collections, outputs)
    return outputs


def convert_collection_to_dict(
    collection: Hashable, clear_collection: bool = False
) -> dict[str, tf.Tensor]:
    """Returns the outputs that were added to a collection, by layer name.

    Args:
        collection: key of the collection, as in `outputs_collections`.
        clear_collection: whether to empty the collection.

    Source: `tf.contrib.layers.utils.convert_collection_to_dict`.
    """
    outputs = collecting.get_collection(collection)
    if clear_collection:
        collecting.clear_collection(collection)
    return {alias: tensor for tensor in outputs for alias in _list_aliases(tensor)}


def _list_aliases(tensor: Any) -> list[str]:
    if hasattr(tensor, "aliases"):
        return tensor.aliases
    return [str(store.get_name(tensor)).removesuffix(":0")]


def last_dimension(shape: Any, min_rank: int = 1) -> int:
    """Returns the last dimension of a static shape.

    Args:
        shape: a `tf.TensorShape`, or a list.
        min_rank: smallest rank that it may have.

    Raises:
        ValueError: the rank is unknown or too small, or the dimension is unknown.

    Source: `tf.contrib.layers.utils.last_dimension`.
    """
    shape = tf.TensorShape(shape)
    if shape.rank is None or shape.rank < min_rank or shape[-1] is None:
        raise ValueError(
            f"shape must have a rank of at least {min_rank} and a known last "
            f"dimension, got {shape}: give the tensor a static shape"
        )
    return shape[-1]
