"""A sweep on a full disk, or interrupted twice, loses no finished run."""

import csv
import os
import signal
import time

import faults
import forks
import orchestrator
import pytest
import test_disks

FLAGS = [
    "--reg=l2",
    "--scales=1e-3",
    "--seeds=3",
    "--lanes=2",
    "--name=a",
    "--dataset=npz",
    "--data_dir=points.npz",
    "--hidden=4",
    "--batch_size=6",
    "--compile=graph",
    "--strategy=one",
]
TIMES = ("steps_per_second", "wall_seconds")


def start(folder, *flags, epochs=3, log="log.txt"):
    """Starts a sweep in a folder."""
    folder.mkdir(exist_ok=True)
    faults.write_points(folder / "points.npz")
    argv = [*FLAGS, f"--epochs={epochs}", *flags]
    return forks.Job(folder, forks.run_script, "sweep", argv, log=log)


def read(folder):
    """Returns the rows of a finished sweep without the times."""
    text = (folder / "runs" / "sweep-a" / "sweep.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def wait_for_results(folder, job, count):
    while len(list(folder.glob("runs/sweep-a/*/result.json"))) < count:
        assert not job.ends_within(0.02), job.read()


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_then_interrupted_twice_is_the_one_left_alone(tmp_path):
    alone, disturbed = tmp_path / "alone", tmp_path / "disturbed"
    job = start(alone)
    assert job.wait() == 0, job.read()
    disturbed.mkdir()
    runs = disturbed / "runs"
    with test_disks.mounted(runs, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        job = start(disturbed)
        wait_for_results(disturbed, job, 1)
        orchestrator.fill(runs / "filler")
        test_disks.check_end(job)
        assert "No space left" in job.read() and not (runs / "sweep.csv").exists()
        (runs / "filler").unlink()
        job = start(disturbed, "--resume")
        wait_for_results(disturbed, job, 3)
        for _ in range(2):
            os.kill(job.pid, signal.SIGINT)
            time.sleep(0.01)
        assert job.wait(60) == 130, job.read()
        job = start(disturbed, "--resume")
        assert job.wait() == 0, job.read()
        assert read(disturbed) == read(alone)


@pytest.mark.slow
def test_a_sweep_goes_on_with_other_data_where_that_is_allowed(tmp_path):
    job = start(tmp_path, epochs=1)
    assert job.wait() == 0, job.read()
    # One example more in the test set, after which the hash is another.
    write = faults.write_points
    try:
        faults.write_points = lambda path: write(path, 91)
        assert start(tmp_path, "--resume", epochs=1).wait() == 4
        flags = "--resume", "--allow_changed_data"
        job = start(tmp_path, *flags, epochs=1)
        assert job.wait() == 0, job.read()
    finally:
        faults.write_points = write
    assert "the data have changed" in job.read()
