"""The memory that a run needs, estimated before it is taken.

    memory.check(settings, dataset, print)

The trap: an allocation that fails within TensorFlow, which may abort the process
without a word. What can't fit is refused before.
"""

import os
import pathlib
import resource
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.runs import config
from tfreg.training import loop, recovery

_SLOTS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adagrad": 1, "adam": 2, "adamw": 2}
_MEMINFO = pathlib.Path("/proc/meminfo")  # Of Linux.
_ADDRESSES = 300 * 10**6  # That TensorFlow's threads reserve, for each CPU.
_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_OWN_CGROUPS = pathlib.Path("/proc/self/cgroup")


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
    needed = estimate(settings, dataset)
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        needed += _ADDRESSES * len(os.sched_getaffinity(0))  # Below, it may abort.
    _compare(needed, "about", log)


def check_step(trained: loop.Loop, log: Callable[[str], None]) -> None:
    """Says how much more memory a training needs than is taken, of any model, on CPUs.

    It holds the gradients, a copy of all variables for the steps that have to be
    undone, and the largest tensor of the forward pass with its gradient. How much more
    the operations take isn't known.

    Args:
        trained: the loop, whose variables are created.
        log: as for `check`.

    Raises:
        ValueError: it needs more than is free.
    """
    adapted = trained.step.adapted
    kept = recovery.list_variables(trained.step, trained.step.get_state())
    needed = sum(map(_count, [*adapted.trainable_variables, *kept]))
    _compare(needed + 2 * trained.measure_forward(), "at least", log)


def _count(variable: tf.Variable) -> int:
    return variable.shape.num_elements() * variable.dtype.size


def _compare(needed: int, how: str, log: Callable[[str], None]) -> None:
    """Refuses what needs more than is free, and tells if it is more than a tenth."""
    if tf.config.list_physical_devices("GPU") or not _MEMINFO.is_file():
        return
    free = get_free()
    text = f"{how} {_format(needed)}, where {_format(free)} are free"
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
    for path in _list_limits():
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        if text.isdigit():
            free.append(int(text) - resident)
    return max(0, min(free))


def _list_limits() -> list[pathlib.Path]:
    """Returns the files with the limits of this process's cgroups, and of the roots.

    In a container the root is its own cgroup.
    """
    text = _OWN_CGROUPS.read_text(encoding="utf-8") if _OWN_CGROUPS.is_file() else ""
    own = {kind: path for _, kind, path in (x.split(":", 2) for x in text.splitlines())}
    places = {
        _CGROUPS: (own.get("", "/"), "memory.max"),
        _CGROUPS / "memory": (own.get("memory", "/"), "memory.limit_in_bytes"),
    }
    return [
        folder / inner / name
        for folder, (path, name) in places.items()
        for inner in ("", path.strip("/"))
    ]


def _format(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:,.3g} {units[0]}"
