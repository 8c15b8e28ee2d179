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
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import tensorflow as tf

from tfreg import _tensorflow

NAMES = ("auto", "one", "mirrored", "multi_worker")


class WorkerError(RuntimeError):
    """Another worker has stopped; scripts end with exit status 75."""


def make_strategy(
    name: str, logical_devices: int = 0, wait: float = 300.0
) -> tf.distribute.Strategy:
    """Returns the strategy, and sets GPUs to allocate memory on demand.

    Args:
        name: `one` device; `mirrored`, all GPUs of this machine or, without a GPU, all
            logical CPUs; `multi_worker`, the machines of TF_CONFIG or SLURM; `auto`,
            multi_worker if several workers are listed, mirrored if there are several
            GPUs or logical CPUs, otherwise one.
        logical_devices: number of logical devices to split the CPU into; 0: no split.
        wait: seconds to wait for all workers of TF_CONFIG.

    Raises:
        ValueError: an unknown name, multi_worker without workers, or a split after
            TensorFlow has used the CPU.
        WorkerError: another process has this worker's port, or a worker hasn't come.
    """
    if name not in NAMES:
        raise ValueError(
            f"strategy must be one of {', '.join(NAMES)}, got {name!r}: choose one"
        )
    _configure(logical_devices)
    if name == "auto":
        name = _choose()
    if name == "multi_worker":
        return _make_multi_worker(wait)
    if name == "mirrored":
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        devices = (device.name for device in tf.config.list_logical_devices(kind))
        return _make_mirrored(tuple(devices), kind)
    return tf.distribute.get_strategy()


@functools.cache  # The collectives of two on the same devices would clash.
def _make_mirrored(devices: tuple[str, ...], kind: str) -> tf.distribute.Strategy:
    ops = None
    if kind == "CPU" or len(devices) > len(tf.config.list_physical_devices(kind)):
        # In shared memory it is faster than the default, a ring; and logical GPUs of
        # one card can't use NCCL, which takes one rank from each card.
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


def _list_workers() -> list[tuple[str, int, str]]:
    """Returns the job, number and host:port of the workers of TF_CONFIG."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return [
            (job, i, str(place))
            for job in ("chief", "worker")
            for i, place in enumerate(cluster.get(job, []))
        ]
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            "TF_CONFIG must be JSON with a cluster and a task, got "
            f"{os.environ['TF_CONFIG']!r}: see docs/replicas.md"
        ) from None


def _count_workers() -> int:
    listed = len(_list_workers())
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or "0"
    return listed or (int(tasks) if tasks.isdigit() else 0)


def _choose() -> str:
    if _count_workers() > 1:
        return "multi_worker"
    devices = [len(tf.config.list_logical_devices(kind)) for kind in ("GPU", "CPU")]
    return "mirrored" if (devices[0] or devices[1]) > 1 else "one"


_made: list[tf.distribute.Strategy] = []  # A process can join its workers once.


def _make_multi_worker(wait: float) -> tf.distribute.Strategy:
    if not _made:
        _meet(wait)
        _made.append(_connect(wait))
        # TensorFlow has taken the handler of SIGTERM for itself.
        handler = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread() and handler:
            signal.signal(signal.SIGTERM, handler)
    return _made[0]


def _connect(wait: float) -> tf.distribute.Strategy:
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
        _tensorflow.limit_wait(resolver.cluster_spec(), wait)
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        raise WorkerError(
            f"all workers must connect, got {type(error).__name__}: start all again"
        ) from error
    except (ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the workers must be fully described, got {reason}: see docs/replicas.md"
        ) from error


def _meet(wait: float) -> None:
    """Waits until all workers of TF_CONFIG are there, each listening at its port.

    TensorFlow waits without a word, and so that no signal ends it.

    Raises:
        WorkerError: another process has this worker's port, or a worker hasn't come.
    """
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    task = config.get("task") if isinstance(config, dict) else None
    task = task if isinstance(task, dict) else {}
    own = str(task.get("type")), str(task.get("index"))
    workers = {(job, str(i)): place for job, i, place in _list_workers()}
    place = workers.pop(own, "")
    if not place.rpartition(":")[2].isdigit():
        return  # TensorFlow says what is wrong.
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(place.rpartition(":")[2])))
        except OSError as error:
            raise WorkerError(
                f"a worker's port must be free, got {place} ({error.strerror}): end "
                "the process that has it, or name another port in TF_CONFIG"
            ) from None
        listener.listen(128)
        _wait_for(workers, wait)


def _wait_for(workers: dict[tuple, str], wait: float) -> None:
    """Waits until something listens at the place of each worker."""
    began, told = time.monotonic(), 5.0
    while True:
        # One that was there is on its way into TensorFlow, and may not listen now.
        workers = {w: p for w, p in workers.items() if not _is_listening(p)}
        seconds = time.monotonic() - began
        if not workers:
            return
        named = ", ".join(f"{job} {i} at {p}" for (job, i), p in workers.items())
        if seconds >= wait:
            raise WorkerError(
                f"all workers must come within {wait:g} s, got none of {named}: start "
                "them, or wait longer by --wait_for_workers"
            )
        if seconds >= told:
            print(f"waiting for {named}", file=sys.stderr, flush=True)
            told *= 2
        time.sleep(0.2)


def _is_listening(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except (OSError, ValueError):
        return False


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
        is_own = isinstance(error, tf.errors.ResourceExhaustedError)
        if strategy.cluster_resolver is None or is_own:
            raise
        lines = str(error.message).strip().splitlines()
        # Below "Graph execution error:" and a traceback of tfreg's lines.
        reasons = [line for line in lines if "ollective ops" in line]
        reason = (reasons or lines or [""])[0].strip()[:200]
        raise WorkerError(
            f"all workers must keep running, got {type(error).__name__} ({reason}): "
            "start all of them again"
        ) from error
