"""Nests of dicts and tuples: their leaves with their paths, and back.

    batch = {"image": x, "size": (3, 4)}, y
    leaves = nests.flatten("x", batch[0])  # [('x["image"]', x), ('x["size"][0]', 3), ..
    nests.pack(batch[0], [leaf for _, leaf in leaves])  # equals batch[0]

The trap: for tf.nest a list is a nest. Here it is the values of one array.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def is_nest(value: Any) -> bool:
    """Returns whether a value is a dict or a tuple, not a leaf."""
    return isinstance(value, Mapping | tuple)


def flatten(
    name: str, nest: Any, is_nest: Callable[[Any], bool] = is_nest
) -> list[tuple[str, Any]]:
    """Returns the leaves of a nest with their paths, such as `x["image"][0]`.

    Args:
        name: the path of the nest.
        nest: dicts and tuples of leaves, or a leaf.
        is_nest: whether a value is a dict or tuple of others.
    """
    if not is_nest(nest):
        return [(name, nest)]
    if isinstance(nest, Mapping):
        items = [
            (f'{name}["{k}"]' if isinstance(k, str) else f"{name}[{k!r}]", nest[k])
            for k in nest
        ]
    else:
        items = [(f"{name}[{i}]", value) for i, value in enumerate(nest)]
    return [leaf for item in items for leaf in flatten(*item, is_nest)]


def pack(
    nest: Any, leaves: Iterable[Any], is_nest: Callable[[Any], bool] = is_nest
) -> Any:
    """Returns a nest of the same structure with other leaves, in their order.

    Args:
        nest: the structure; mappings of any type become dicts.
        leaves: one for each leaf of it.
        is_nest: as for `flatten`.
    """
    remaining = iter(leaves)

    def build(node: Any) -> Any:
        if not is_nest(node):
            return next(remaining)
        if isinstance(node, Mapping):
            return {key: build(node[key]) for key in node}
        values = [build(value) for value in node]
        return type(node)(*values) if hasattr(node, "_fields") else tuple(values)

    return build(nest)


def convert(function: Callable[[Any], Any], nest: Any) -> Any:
    """Returns a nest of the values of a function at each leaf."""
    return pack(nest, [function(leaf) for _, leaf in flatten("", nest)])
