"""The content of result.json: losses of the final model, speed and environment.

    run = tfreg.runs.build(settings)
    trainer = tfreg.runs.make_trainer(run)
    trainer.run(settings.epochs)
    result = results.make_result(trainer, {"test": run.dataset.test})

The trap: a speed with the compilation in it. The first epoch's counts only where it is
the only one.
"""

import json
import os
import platform
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tfreg
from tfreg import _tensorflow
from tfreg.training import exactness, reports


def make_result(
    trained: Any, splits: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Evaluates the model, and returns the content of result.json.

    Args:
        trained: the trainer, after its run.
        splits: name -> the examples to evaluate the model on; None: its validation
            data, and the last epoch's means for `train`.

    Returns:
        JSON values: steps, steps_per_second, the splits, and the environment.
    """
    loop, history = trained.loop, trained.history
    variables = loop.step.adapted.trainable_variables
    speeds = history.speeds
    result: dict[str, Any] = {
        "steps": trained.num_steps,
        # Without the time to compile, unless there was only one epoch.
        "steps_per_second": round(statistics.median(speeds), 1) if speeds else None,
    }
    result |= _evaluate(trained, splits) | {
        "parameters": sum(v.shape.num_elements() for v in variables),
        "versions": {
            "tfreg": tfreg.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": describe_device(),
        "replicas": loop.strategy.num_replicas_in_sync,
        **exactness.describe(loop.step.precision),
        "compile": {"mode": loop.mode.name, "reasons": list(loop.mode.reasons)},
        "wall_seconds": round(trained.seconds, 3),
    }
    if trained.patience is not None:
        result["best_step"] = history.best_step
    if history.stopped:
        result["stopped"] = history.stopped
    if trained.data_hashes:
        result["data"] = trained.data_hashes
    return result


def _evaluate(trained: Any, splits: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the losses of each split."""
    result = {}
    if splits is None:
        result["train"] = trained.history.train
        has_any = trained.validation is not None
        splits = {"validation": trained.validation} if has_any else {}
    for name, source in splits.items():
        report = trained.evaluate(source)
        result[name] = get_losses(report)
        if name == "train":
            result[name] |= {
                "regularization": report.regularization,
                "total": report.total,
                "terms": report.penalties,
            }
    return result


def get_losses(report: reports.Report) -> dict[str, Any]:
    """Returns the data loss and the metrics of a report."""
    return {"loss": report.loss, **report.metrics}


def describe_device() -> str:
    """Returns the name of the GPU, or the CPU's number of threads and its kernels."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return str(details.get("device_name", "GPU"))
    # As TensorFlow chooses it; taskset and cpusets limit the affinity.
    text = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    threads = threads or (int(text) if text.isdigit() else 0)
    onednn = ", oneDNN" if _tensorflow.uses_onednn() else ""
    return f"CPU, {threads or len(os.sched_getaffinity(0))} threads{onednn}"


def to_json(value: Any) -> str:
    """Returns indented JSON that ends with a newline."""
    return json.dumps(value, indent=2) + "\n"
