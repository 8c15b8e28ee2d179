"""How exactly a device computes: TF32, and the same bits twice.

    exactness.use("float32")  # without TF32, TensorFlow's default on a GPU
    exactness.describe("float32")  # {"precision": "float32", "deterministic": True}
    exactness.list_notes("float32")  # []: only a GPU has something to say

The traps: a float32 that a GPU rounds to 10 bits in every product, and a resumed run
whose last bits differ, since a GPU adds in another order each time.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow


def _list_gpus() -> list[Any]:
    return tf.config.get_visible_devices("GPU")


def has_tf32() -> bool:
    """Returns whether a GPU has TF32: from compute capability 8.0 on."""
    details = map(tf.config.experimental.get_device_details, _list_gpus())
    return any(each.get("compute_capability", (0, 0)) >= (8, 0) for each in details)


def use(precision: str) -> None:
    """Makes the process compute in TF32 where that is the precision, and nowhere else.

    Args:
        precision: of a step.
    """
    if _list_gpus():  # On CPUs it means nothing.
        allowed = precision == "tf32"
        tf.config.experimental.enable_tensor_float_32_execution(allowed)


def is_deterministic() -> bool:
    """Returns whether the same training has the same bits: on CPUs always."""
    return not _list_gpus() or is_enabled()


def is_enabled() -> bool:
    """Returns whether TensorFlow's op determinism is enabled."""
    return _tensorflow.is_deterministic()


def describe(precision: str) -> dict[str, Any]:
    """Returns for result.json what is computed: tf32 only where a GPU has it.

    Args:
        precision: of a step.
    """
    computed = "float32" if precision == "tf32" and not has_tf32() else precision
    return {"precision": computed, "deterministic": is_deterministic()}


def list_notes(precision: str) -> list[str]:
    """Returns what the start of a run says of its exactness.

    Args:
        precision: of a step.
    """
    notes = []
    if precision == "tf32" and has_tf32():
        notes.append("tf32: products round float32 to 10 bits, sums don't")
    if not is_deterministic():
        notes.append(
            "on this GPU a resumed run differs in the last bits: deterministic makes "
            "them equal, and is slower"
        )
    return notes


@contextlib.contextmanager
def explain() -> Iterator[None]:
    """Turns TensorFlow's error about an operation into a sentence.

    Raises:
        ValueError: an operation has no deterministic kernel.
    """
    try:
        yield
    except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError) as error:
        text = str(error.message)
        if not is_enabled() or "determinis" not in text:
            raise
        lines = [line.strip() for line in text.splitlines() if "determinis" in line]
        reason = re.sub(r"\s+", " ", lines[0])[:200]
        raise ValueError(
            f"every operation must be deterministic, got {reason!r}: write "
            "compile='graph', use another operation, or leave deterministic out"
        ) from None
