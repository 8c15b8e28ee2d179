"""A run that is killed at any moment ends, resumed, as the run left alone."""

import contextlib
import os
import random
import shutil
import signal
import time

import faults
import pytest

NUM_KILLS = 200 if faults.WHOLE else 20
EPOCHS = "--epochs=20"


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_as_the_run_left_alone(tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    began = time.monotonic()
    assert faults.train(alone, EPOCHS).wait() == 0
    seconds = time.monotonic() - began
    want = faults.describe(alone / "runs" / "a")
    rng, num_kills, num_runs = random.Random(0), 0, 0
    while num_kills < NUM_KILLS:
        folder = tmp_path / f"run{num_runs}"
        folder.mkdir()
        for _ in range(10):
            num_kills += _kill(folder, rng.uniform(0.4, 0.9) * seconds)
        job = faults.train(folder, EPOCHS, "--resume")
        assert job.wait() == 0, job.read()
        assert faults.describe(folder / "runs" / "a") == want
        shutil.rmtree(folder)
        num_runs += 1
    print(f"\n{num_kills} kills in {num_runs} runs: {num_runs} ended as if left alone")


def _kill(folder, seconds):
    """Tells whether a run was killed before its end."""
    job = faults.train(folder, EPOCHS, "--resume")
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # It may have ended.
        os.kill(job.pid, signal.SIGKILL)
    status = job.wait()
    assert status in (0, -signal.SIGKILL), job.read()
    return status != 0
