"""What a model's outputs say: probabilities and labels, or values.

    kept = inputs.describe(dataset)
    outputs = serving.compute(trained.step, kept, x)  # {"probabilities": ..., ...}
    values = serving.predict(trained.step, kept, dataset.test.x)

The trap: outputs that are turned into probabilities in one way for the report, and in
another in the exported model.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfreg.runs import inputs
from tfreg.training import batches, step

BATCH = 1024


def compute(
    trained: step.Step, kept: inputs.Inputs, x: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Returns `probabilities` and `labels`, or `values`, of encoded inputs.

    Args:
        trained: the step, with its final weights.
        kept: what the run has kept of its data.
        x: `[batch, ...]`, of the dtype in the file; pixels aren't divided yet.
    """
    kind = kept.task.kind
    x = batches.scale_pixels(x, kept.pixels)
    x = tf.cast(x, trained.dtype) if x.dtype.is_floating else x
    outputs = tf.cast(trained.adapted(x, training=False), tf.float32)
    if kind == "regression":
        return {"values": tf.reshape(outputs, [-1, *kept.target_shape])}
    if kind == "multilabel":
        labels = tf.cast(outputs > 0, tf.int32)
        return {"probabilities": tf.sigmoid(outputs), "labels": labels}
    if kind == "binary":
        outputs = tf.concat([tf.zeros_like(outputs), outputs], 1)
    labels = tf.argmax(outputs, -1, tf.int32)
    return {"probabilities": tf.nn.softmax(outputs), "labels": labels}


def predict(trained: step.Step, kept: inputs.Inputs, x: Any) -> np.ndarray:
    """Returns the probabilities or values of all inputs, eagerly.

    Args:
        trained: as for `compute`.
        kept: as for `compute`.
        x: `[examples, ...]`.
    """
    parts = []
    for first in range(0, len(x), BATCH):
        part = tf.constant(np.asarray(x[first : first + BATCH], kept.dtype))
        outputs = compute(trained, kept, part)
        name = "values" if kept.task.kind == "regression" else "probabilities"
        parts.append(outputs[name].numpy())
    return np.concatenate(parts)
