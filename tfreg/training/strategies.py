"""Chooses the devices and machines to train on: `one`, `mirrored` or `multi_worker`.

    strategy = tfreg.training.strategies.make_strategy("auto")
    with strategy.scope():
        ...  # model and optimizer

The trap: logical devices and memory growth can only be set before TensorFlow uses a
device. So make the strategy first.
"""

import contextlib
import functools
import itertools
import json
import os
import re
import reprlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.training import meeting

NAMES = ("auto", "one", "mirrored", "multi_worker")


def tell(missing: str) -> None:
    """Prints who is waited for on stderr."""
    print(f"waiting for {missing}", file=sys.stderr, flush=True)


def make_strategy(
    name: str,
    logical_devices: int = 0,
    wait: float = 300.0,
    tell: Callable[[str], None] = tell,
) -> tf.distribute.Strategy:
    """Returns the strategy, and sets GPUs to allocate memory on demand.

    Args:
        name: `one` device; `mirrored`, all GPUs of this machine or, without a GPU, all
            logical CPUs; `multi_worker`, the machines of TF_CONFIG or SLURM; `auto`,
            multi_worker if several workers are listed, mirrored if there are several
            GPUs or logical CPUs, otherwise one.
        logical_devices: number of logical devices to split the CPU into; 0: no split.
        wait: seconds to wait for all workers of TF_CONFIG.
        tell: called with the names and places of those that are waited for.

    Raises:
        ValueError: an unknown name, multi_worker without workers, or a split after
            TensorFlow has used the CPU.
        meeting.WorkerError: another process has this worker's port, or a worker hasn't
            come.
    """
    if name not in NAMES:
        raise ValueError(
            f"strategy must be one of {', '.join(NAMES)}, got {name!r}: choose one"
        )
    _configure(logical_devices)
    if name == "auto":
        name = _choose()
    if name == "multi_worker":
        return _make_multi_worker(wait, tell)
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


def _read_tf_config() -> tuple[str, dict[str, str]]:
    """Returns the name of this worker, and name -> host:port of all, of TF_CONFIG.

    Raises:
        ValueError: TF_CONFIG doesn't describe them.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise _refuse("TF_CONFIG must be JSON with a cluster and a task", text)
    if not config:
        return "", {}
    cluster, task = config.get("cluster"), config.get("task")
    jobs = cluster if isinstance(cluster, dict) else {}
    workers: dict[str, Any] = {}
    for job in ("chief", "worker"):
        listed = jobs.get(job, [])
        places = listed if isinstance(listed, list) else [None]
        workers |= {f"{job} {i}": place for i, place in enumerate(places)}
    if not workers or not all(map(_is_place, workers.values())):
        raise _refuse(
            "the cluster of TF_CONFIG must list a host:port of each worker", cluster
        )
    own = f"{task.get('type')} {task.get('index')}" if isinstance(task, dict) else ""
    if own not in workers:
        raise _refuse(
            f"the task of TF_CONFIG must be one of {', '.join(workers)}, by its type "
            "and index",
            task,
        )
    return own, workers


def _is_place(place: Any) -> bool:
    host, _, port = place.rpartition(":") if isinstance(place, str) else ("", "", "")
    is_number = port.isdecimal() and len(port) < 6
    return bool(host) and is_number and 0 < int(port) < 65536


def _refuse(text: str, value: Any) -> ValueError:
    return ValueError(f"{text}, got {reprlib.repr(value)}: see docs/replicas.md")


def _count_workers() -> int:
    listed = len(_read_tf_config()[1])
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or "0"
    return listed or (int(tasks) if tasks.isdigit() else 0)


def _choose() -> str:
    if _count_workers() > 1:
        return "multi_worker"
    devices = [len(tf.config.list_logical_devices(kind)) for kind in ("GPU", "CPU")]
    return "mirrored" if (devices[0] or devices[1]) > 1 else "one"


_made: list[tf.distribute.Strategy] = []  # A process can join its workers once.


def _make_multi_worker(
    wait: float, tell: Callable[[str], None]
) -> tf.distribute.Strategy:
    if not _made:
        own, workers = _read_tf_config()
        if workers:
            meeting.meet(own, workers, wait, tell)
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
        if _read_tf_config()[1]:
            resolver = resolvers.TFConfigClusterResolver()
        else:
            resolver = resolvers.SlurmClusterResolver()
        _tensorflow.limit_wait(resolver.cluster_spec(), wait)
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        lost = _find_lost(str(error.message).splitlines())
        raise meeting.WorkerError(
            f"all workers must connect within {wait:g} s, got {_name(lost)} lost "
            f"({type(error).__name__}): start all of them again",
            lost,
        ) from error
    except (ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the workers must be fully described, got {reason}: see docs/replicas.md"
        ) from error


def is_first() -> bool:
    """Returns whether TF_CONFIG says that this process is the chief."""
    own, workers = _read_tf_config()
    return bool(workers) and own == next(iter(workers))


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
        meeting.WorkerError: another worker has stopped.
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
        reason = (reasons or lines or [""])[0].strip(" :")[:200]
        lost = _find_lost(lines)
        raise meeting.WorkerError(
            f"all workers must keep running, got {_name(lost)} lost "
            f"({type(error).__name__}: {reason}): start all of them again",
            lost,
        ) from error


def _name(places: Sequence[int]) -> str:
    names = list(_read_tf_config()[1])
    return ", ".join(names[i] for i in places) or "one"


# What a worker says whose heartbeats the chief doesn't answer.
_NO_CHIEF = re.compile(r"aborted by: Deadline Exceeded|RPC to coordination service")


def _find_lost(lines: Sequence[str]) -> list[int]:
    """Returns the places of lost workers, by an error's lines or by their ports."""
    own, workers = _read_tf_config()
    names = list(workers)
    pattern = re.compile(r"unhealthy|timed out task names:$")
    heads = [i for i, line in enumerate(lines) if pattern.search(line)]
    below = lines[heads[0] + 1 :] if heads else []
    listed = itertools.takewhile(lambda line: line.startswith("/job:"), below)
    found = [re.match(r"/job:(\w+)/replica:\d+/task:(\d+)", line) for line in listed]
    lost = [f"{match[1]} {match[2]}" for match in found if match]
    others = [name for name in names if name != own]
    if not lost:
        time.sleep(0.5)  # The ports of a process that dies close one after another.
        lost = [name for name in others if not meeting.is_listening(workers[name])]
    # A chief that is stopped, or out of reach for a while, still listens afterwards.
    if not lost and others[:1] == names[:1] and any(map(_NO_CHIEF.search, lines)):
        lost = others[:1]
    return [names.index(name) for name in lost if name in names]
