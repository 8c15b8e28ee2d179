"""The memory that a run needs, estimated before it is taken.

    memory.check(settings, dataset, print)

The trap: an allocation that fails within TensorFlow, which may abort the process
without a word. What can't fit is refused before.
"""

import pathlib
import resource
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.runs import config

_SLOTS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adagrad": 1, "adam": 2, "adamw": 2}
_MEMINFO = pathlib.Path("/proc/meminfo")  # Of Linux.
_CGROUPS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def check(
    settings: config.Config, dataset: data.Dataset, log: Callable[[str], None]
) -> None:
    """Says how much memory a run needs where that is much, on CPUs.

    Args:
        settings: of the run.
        dataset: with the examples that it trains on.
        log: called with a message if it needs more than a tenth of what is free.

    Raises:
        ValueError: it needs more than is free.
    """
    if tf.config.list_physical_devices("GPU") or not _MEMINFO.is_file():
        return
    needed, free = estimate(settings, dataset), get_free()
    text = f"about {_format(needed)}, where {_format(free)} are free"
    if needed > free:
        raise ValueError(
            f"a run must fit in the memory, got a need of {text}: choose a smaller "
            "model or fewer examples, or raise the limit"
        )
    if needed > free / 10:
        log(f"the run needs {text}")


def estimate(settings: config.Config, dataset: data.Dataset) -> int:
    """Returns the bytes of the examples and, of the models by name, of the weights.

    A weight has a gradient, the optimizer's slots and averages, and a copy of all but
    the gradient for the steps that have to be undone.
    """
    kept = 1 + _SLOTS.get(settings.optimizer, 2)  # Keras's have one or two.
    kept += (settings.ema is not None) + (settings.patience is not None)
    size = 8 if settings.precision == "float64" else 4
    weights = _count_weights(settings, dataset) * (2 * kept + 1) * size
    return weights * max(1, settings.logical_devices) + dataset.train.x.nbytes


def _count_weights(settings: config.Config, dataset: data.Dataset) -> int:
    """Returns the number of weights of an MLP, 0 of other models."""
    if settings.model not in ("mlp", "linear"):
        return 0
    hidden = settings.hidden if settings.model == "mlp" else ()
    y, inputs = dataset.train.y, dataset.train.x.shape[1:]
    num_outputs = dataset.num_classes or int(np.prod(y.shape[1:]))
    widths = [int(np.prod(inputs)), *hidden, num_outputs]
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return sum((a + 1) * b for a, b in pairs)


def get_free() -> int:
    """Returns the bytes that this process can still take."""
    meminfo = _MEMINFO.read_text(encoding="ascii")
    lines = dict(line.split(":") for line in meminfo.splitlines())
    statm = pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()
    virtual, resident = (int(n) * resource.getpagesize() for n in statm[:2])
    free = [int(lines["MemAvailable"].split()[0]) * 1024]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free.append(limit - virtual)
    for path in map(pathlib.Path, _CGROUPS):
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        if text.isdigit():
            free.append(int(text) - resident)
    return max(0, min(free))


def _format(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:,.3g} {units[0]}"
