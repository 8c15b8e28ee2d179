"""What result.json holds: the finished model's losses, its speed, what it ran on.

result = results.make_result(loop, dataset, speeds, began)
checkpoints.write_whole("runs/a/result.json", results.to_json(result))
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tfreg
from tfreg import data
from tfreg.training import loop

SPLITS = ("train", "validation", "test")


def make_result(
    trained: loop.Loop,
    dataset: data.Dataset,
    speeds: Sequence[float],
    began: float,
    splits: Sequence[str] = SPLITS,
) -> dict[str, Any]:
    """Evaluates the model and returns what result.json holds.

    Args:
        trained: the loop that has trained it.
        dataset: its data.
        speeds: steps per second of epochs, without compilation where there were more.
        began: `time.perf_counter()` at the start of the run.
        splits: which of SPLITS the model is evaluated on.

    Returns:
        JSON values: steps, steps_per_second, those splits and the others.
    """
    variables = trained.step.model.trainable_variables
    result: dict[str, Any] = {
        "steps": int(trained.step.optimizer.step.numpy()),
        "steps_per_second": round(statistics.median(speeds), 1),
    }
    for name in splits:
        report = trained.evaluate(getattr(dataset, name))
        result[name] = get_losses(report)
        if name == "train":
            result[name] |= _get_penalties(report)
    result |= {
        "parameters": sum(v.shape.num_elements() for v in variables),
        "versions": {
            "tfreg": tfreg.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": describe_device(),
        "replicas": trained.strategy.num_replicas_in_sync,
    }
    return result | {"wall_seconds": round(time.perf_counter() - began, 3)}


def get_losses(report: loop.Report) -> dict[str, float]:
    """Returns the data loss, and the accuracy where there is one, of a report."""
    names = {"loss": "loss/data", "accuracy": "accuracy"}
    return {name: report[tag] for name, tag in names.items() if tag in report}


def _get_penalties(report: loop.Report) -> dict[str, Any]:
    prefix = "regularization/"
    terms = {
        k.removeprefix(prefix): v for k, v in report.items() if k.startswith(prefix)
    }
    return {
        "regularization": report["loss/regularization"],
        "total": report["loss/total"],
        "terms": terms,
    }


def describe_device() -> str:
    """Returns the accelerator's name, or the CPU and its threads."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return str(details.get("device_name", "GPU"))
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return f"CPU, {threads} threads"


def to_json(value: Any) -> str:
    """Returns indented JSON with a newline at its end."""
    return json.dumps(value, indent=2) + "\n"
