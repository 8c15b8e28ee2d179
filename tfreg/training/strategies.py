"""Chooses the devices and machines to train on: `one`, `mirrored` or `multi_worker`.

    strategy = tfreg.training.strategies.make_strategy("auto")
    with strategy.scope():
        ...  # model and optimizer

The trap: logical devices and memory growth can only be set before TensorFlow uses a
device. So make the strategy first.
"""

import contextlib
import functools
import json
import os
from collections.abc import Iterator

import tensorflow as tf

NAMES = ("auto", "one", "mirrored", "multi_worker")


class WorkerError(RuntimeError):
    """Another worker has stopped; scripts end with exit status 75."""


def make_strategy(name: str, logical_devices: int = 0) -> tf.distribute.Strategy:
    """Returns the strategy, and sets GPUs to allocate memory on demand.

    Args:
        name: `one` device; `mirrored`, all GPUs of this machine or, without a GPU, all
            logical CPUs; `multi_worker`, the machines of TF_CONFIG or SLURM; `auto`,
            multi_worker if several workers are listed, mirrored if there are several
            GPUs or logical CPUs, otherwise one.
        logical_devices: number of logical devices to split the CPU into; 0: no split.

    Raises:
        ValueError: an unknown name, multi_worker without workers, or a split after
            TensorFlow has used the CPU.
    """
    if name not in NAMES:
        raise ValueError(
            f"strategy must be one of {', '.join(NAMES)}, got {name!r}: choose one"
        )
    _configure(logical_devices)
    if name == "auto":
        name = _choose()
    if name == "multi_worker":
        return _make_multi_worker()
    if name == "mirrored":
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        devices = (device.name for device in tf.config.list_logical_devices(kind))
        return _make_mirrored(tuple(devices), kind)
    return tf.distribute.get_strategy()


@functools.cache  # The collectives of two on the same devices would clash.
def _make_mirrored(devices: tuple[str, ...], kind: str) -> tf.distribute.Strategy:
    ops = None
    if kind == "CPU":
        # In shared memory it is faster than the default, a ring.
        ops = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, ops)


def _configure(logical_devices: int) -> None:
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if logical_devices:
            parts = [tf.config.LogicalDeviceConfiguration()] * logical_devices
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError as error:
        existing = len(tf.config.list_logical_devices("CPU"))
        if logical_devices and existing != logical_devices:
            raise ValueError(
                "logical_devices must be set before TensorFlow is used, got "
                f"{logical_devices} when the CPU has {existing} ({error}): start a new "
                "process"
            ) from None


def _count_workers() -> int:
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        listed = sum(len(cluster.get(job, [])) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            "TF_CONFIG must be JSON with a cluster and a task, got "
            f"{os.environ['TF_CONFIG']!r}: see docs/replicas.md"
        ) from None
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or "0"
    return listed or (int(tasks) if tasks.isdigit() else 0)


def _choose() -> str:
    if _count_workers() > 1:
        return "multi_worker"
    devices = [len(tf.config.list_logical_devices(kind)) for kind in ("GPU", "CPU")]
    return "mirrored" if (devices[0] or devices[1]) > 1 else "one"


@functools.cache
def _make_multi_worker() -> tf.distribute.Strategy:
    if not _count_workers():
        raise ValueError(
            "strategy multi_worker must know its workers, got neither TF_CONFIG nor "
            "SLURM's variables: set TF_CONFIG, see docs/replicas.md"
        )
    resolvers = tf.distribute.cluster_resolver
    try:
        if os.environ.get("TF_CONFIG"):
            resolver = resolvers.TFConfigClusterResolver()
        else:
            resolver = resolvers.SlurmClusterResolver()
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the workers must be fully described, got {reason}: see docs/replicas.md"
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes the files, as a single one always does."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


@contextlib.contextmanager
def explain_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the error of a lost worker into a sentence.

    Raises:
        WorkerError: another worker has stopped.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if strategy.cluster_resolver is None:
            raise
        lines = str(error.message).strip().splitlines()
        # Below "Graph execution error:" and a traceback of tfreg's lines.
        reasons = [line for line in lines if "ollective ops" in line]
        reason = (reasons or lines or [""])[0].strip()[:200]
        raise WorkerError(
            f"all workers must keep running, got {type(error).__name__} ({reason}): "
            "start all of them again"
        ) from error
