"""The content of result.json: losses of the final model, speed and environment.

    run = tfreg.runs.build(settings)
    trainer = tfreg.runs.make_trainer(run)
    trainer.run(settings.epochs, tfreg.runs.console.Progress(2, 2))
    result = results.make_result(trainer, run.dataset)

The trap: a speed with the compilation in it. The first epoch's counts only where it is
the only one.
"""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tfreg
from tfreg import data
from tfreg.training import reports, trainer

SPLITS = ("train", "validation", "test")


def make_result(
    trained: trainer.Trainer, dataset: data.Dataset, splits: Sequence[str] = SPLITS
) -> dict[str, Any]:
    """Evaluates the model, and returns the content of result.json.

    Args:
        trained: the trainer, after its run.
        dataset: the data of the run.
        splits: the names in SPLITS to evaluate the model on.

    Returns:
        JSON values: steps, steps_per_second, the splits, and the environment.
    """
    loop, history = trained.loop, trained.history
    variables = loop.step.adapted.trainable_variables
    result: dict[str, Any] = {
        "steps": trained.num_steps,
        # Without the time to compile, unless there was only one epoch.
        "steps_per_second": round(statistics.median(history.speeds), 1),
    }
    for name in splits:
        report = loop.evaluate(getattr(dataset, name))
        result[name] = get_losses(report)
        if name == "train":
            result[name] |= {
                "regularization": report.regularization,
                "total": report.total,
                "terms": report.penalties,
            }
    result |= {
        "parameters": sum(v.shape.num_elements() for v in variables),
        "versions": {
            "tfreg": tfreg.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": describe_device(),
        "replicas": loop.strategy.num_replicas_in_sync,
        "compile": {"mode": loop.mode.name, "reasons": list(loop.mode.reasons)},
        "wall_seconds": round(trained.seconds, 3),
    }
    if trained.patience is not None:
        result["best_step"] = history.best_step
    return result


def get_losses(report: reports.Report) -> dict[str, Any]:
    """Returns the data loss and the metrics of a report."""
    return {"loss": report.loss, **report.metrics}


def describe_device() -> str:
    """Returns the name of the GPU, or the number of the CPU's threads."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return str(details.get("device_name", "GPU"))
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return f"CPU, {threads} threads"


def to_json(value: Any) -> str:
    """Returns indented JSON that ends with a newline."""
    return json.dumps(value, indent=2) + "\n"
