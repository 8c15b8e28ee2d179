"""Plays the orchestrator of several workers, and does to them what machines do.

    group = orchestrator.Group(tmp_path, 2)
    fault = orchestrator.Fault("kill", victim=1, seconds=4.0)
    group.start(fault)
    group.wait()  # [75, -9], each with its sentence in `group.read_sentences()`

A group is started again, all workers by the same command, until each ends with 0.
"""

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

import faults

KINDS = ("kill", "TERM", "INT", "STOP", "disk", "port")
SIGNALS = {"kill": "SIGKILL", "TERM": "SIGTERM", "INT": "SIGINT", "STOP": "SIGSTOP"}
AGAIN = {75, 130, 143, -9, 6}  # docs/replicas.md; 6 once there is room, as here.
STOPPED = 40.0  # Seconds.
WAIT = 15  # Seconds for the workers to meet.
LIMIT = 300.0  # Seconds for a start and its fault, on a machine that others use too.
FLAGS = [
    "--strategy=multi_worker",
    f"--wait_for_workers={WAIT}",
    "--resume=auto",
    "--compile=graph",
    "--epochs=2",
    "--checkpoint_every=3",
]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to one worker, so many seconds after the start."""

    kind: str
    victim: int
    seconds: float


def draw_faults(seed, number, count, seconds, kinds=KINDS):
    """Returns faults of a group: each kind in turn, a random worker and moment."""
    rng, drawn = random.Random(seed), []
    for i in range(number):
        kind = kinds[i % len(kinds)]
        # The chief alone writes.
        victim = 0 if kind == "disk" else rng.randrange(count)
        drawn.append(Fault(kind, victim, rng.uniform(0.1, 0.95) * seconds))
    return drawn


def find_ports(count):
    """Returns free ports of this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Group:
    """Workers of a small training, each with a folder of its own.

    Args:
        folder: has one of each worker; the run is in worker0/runs/a.
        count: number of workers.
        disk: size of the chief's disk, a tmpfs; None: that of `folder`.
        flags: more flags of the training.
    """

    def __init__(self, folder, count, disk=None, flags=()):
        self.folders = [folder / f"worker{i}" for i in range(count)]
        for each in self.folders:
            each.mkdir(parents=True)
        self.ports, self.jobs, self.flags = find_ports(count), [], [*FLAGS, *flags]
        self.runs, self.disk = self.folders[0] / "runs", disk
        if disk is not None:
            self.runs.mkdir()
            options = ["-t", "tmpfs", "-o", f"size={disk}", "tmpfs"]
            subprocess.run(["mount", *options, str(self.runs)], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for job in self.jobs:
            if not job.ends_within(0):
                os.kill(job.pid, signal.SIGKILL)
        if self.disk is not None:
            subprocess.run(["umount", "-l", str(self.runs)], check=True)

    def start(self, fault=None):
        """Starts all workers; the fault happens while they run."""
        places = [f"127.0.0.1:{port}" for port in self.ports]
        filler = self.runs / "filler"
        filler.unlink(missing_ok=True)
        taken = contextlib.ExitStack()
        if fault is not None and fault.kind == "port":
            listener = taken.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", self.ports[fault.victim]))
            listener.listen()
        self.jobs = []
        for i, folder in enumerate(self.folders):
            task = {"type": "worker", "index": i}
            text = json.dumps({"cluster": {"worker": places}, "task": task})
            job = faults.train(folder, *self.flags, environment={"TF_CONFIG": text})
            self.jobs.append(job)
        if fault is None or fault.kind == "port":
            self._timer = threading.Thread(target=taken.close)
            if fault is not None:
                self._timer = threading.Timer(WAIT + 10.0, taken.close)
        else:
            self._timer = threading.Timer(fault.seconds, self._disturb, [fault])
        self._timer.start()

    def _disturb(self, fault):
        job = self.jobs[fault.victim]
        if fault.kind == "disk":
            fill(self.runs / "filler")
            return
        with contextlib.suppress(ProcessLookupError):  # It may have just ended.
            os.kill(job.pid, getattr(signal, SIGNALS[fault.kind]))
            if fault.kind == "STOP":
                time.sleep(STOPPED)
                os.kill(job.pid, signal.SIGCONT)

    def wait(self, limit=LIMIT):
        """Returns the exit statuses; fails where one is still running after all."""
        deadline = time.monotonic() + limit
        for job in self.jobs:
            job.ends_within(max(0.0, deadline - time.monotonic()))
        hung = [i for i, job in enumerate(self.jobs) if not job.ends_within(0)]
        assert not hung, f"workers {hung} hang: {self.read_sentences()}"
        self._timer.join()
        return [job.wait(0) for job in self.jobs]

    def read_sentences(self):
        """Returns the last line of each worker that tells how it has ended."""
        pattern = re.compile(r"^(?:error|interrupted).*$", re.M)
        told = [pattern.findall(job.read()) for job in self.jobs]
        return [lines[-1] if lines else "" for lines in told]

    def describe(self):
        """Returns what the finished run is compared by."""
        return faults.describe(self.runs / "a")


def fill(path):
    """Fills a disk to the last byte."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def run_fault(folder, count, fault, disk=None):
    """Runs a group with a fault, and again until all end with 0.

    Returns:
        The statuses and sentences of each start, and `describe` of the end.
    """
    starts = []
    with Group(folder, count, disk) as group:
        while True:
            group.start(None if starts else fault)
            statuses = group.wait(LIMIT + (fault.seconds if not starts else 0.0))
            starts.append((statuses, group.read_sentences()))
            assert all("Traceback" not in job.read() for job in group.jobs), [
                job.read() for job in group.jobs
            ]
            if not any(statuses):
                return starts, group.describe()
            assert set(statuses) <= AGAIN | {0} and len(starts) < 4, starts
