"""One process in a directory, however many start; and saves at length."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import faults
import forks
import pytest

from tfreg.training import checkpoints

NUM_STARTS = 50 if faults.WHOLE else 6
NUM_SAVES = 500 if faults.WHOLE else 120
NUM_PROCESSES = 8 if faults.WHOLE else 2


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_of_many_starts_one_runs(tmp_path, flag):
    job = faults.train(tmp_path, "--epochs=2")
    assert job.wait() == 0, job.read()
    flags = [flag, "--epochs=100000"]
    jobs = [
        faults.train(tmp_path, *flags, log=f"log{i}.txt") for i in range(NUM_STARTS)
    ]
    runs = None
    deadline = time.monotonic() + 300
    while runs is None or len(runs) > 1:
        assert time.monotonic() < deadline
        runs = [job for job in jobs if not job.ends_within(0.01)]
    assert len(runs) == 1
    while "epoch " not in runs[0].read():
        time.sleep(0.1)
    os.kill(runs[0].pid, signal.SIGTERM)
    statuses = [job.wait() for job in jobs]
    assert sorted(statuses) == [75] * (NUM_STARTS - 1) + [143], statuses
    newest = checkpoints.list_newest_first(tmp_path / "runs" / "a" / "checkpoints")[0]
    checkpoints.verify(newest)
    print(f"\n{NUM_STARTS} starts, {statuses.count(75)} ended with 75")


@pytest.mark.slow
def test_of_many_processes_of_the_script_one_runs(tmp_path):
    faults.write_points(tmp_path / "points.npz")
    script = [sys.executable, str(forks.SCRIPTS / "train.py")]
    command = [*script, *faults.get_flags(tmp_path), "--epochs=100000", "--resume"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(command, cwd=tmp_path, **pipes) for _ in range(NUM_PROCESSES)
    ]
    deadline = time.monotonic() + 300
    while len(running := [p for p in started if p.poll() is None]) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while not list(tmp_path.glob("runs/a/checkpoints/step-*[1-9]")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running[0].send_signal(signal.SIGTERM)
    printed = {p.communicate(timeout=300)[1] for p in started if p not in running}
    running[0].communicate(timeout=300)
    statuses = sorted(p.returncode for p in started)
    assert statuses == [75] * (NUM_PROCESSES - 1) + [143]
    assert len(printed) == 1 and "must have one process, got 'runs/a'" in min(printed)
    print(f"\n{NUM_PROCESSES} processes, {statuses.count(75)} ended with 75")


def measure():
    """Returns resident memory in bytes and the number of open descriptors."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def test_saves_leave_memory_descriptors_and_files_as_they_are(tmp_path):
    state = {"values": faults.Values(1.0, 6400)}  # 1.6 MB, as the default's
    found, began = [], 0.0
    for step in range(NUM_SAVES):
        if step == 20:
            began = time.perf_counter()
        checkpoints.save(tmp_path, step, state)
        if step >= 20:
            found.append((*measure(), len(list(tmp_path.rglob("*")))))
    seconds = (time.perf_counter() - began) / len(found)
    memory, descriptors, files = zip(*found, strict=True)
    assert max(descriptors) == min(descriptors) and max(files) == min(files)
    # A leak of the state would be 1.6 MB a save.
    half = len(memory) // 2
    growth = (max(memory[half:]) - max(memory[:half])) / half
    assert growth < 80_000
    print(f"\n{NUM_SAVES} saves: {growth:,.0f} bytes more a save, {seconds:.4f} s each")
