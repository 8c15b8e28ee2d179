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
    for name in ("first", "alone"):  # The first one waits for TensorFlow's import.
        folder = tmp_path / name
        folder.mkdir()
        began = time.monotonic()
        assert faults.train(folder, EPOCHS).wait() == 0
        seconds = time.monotonic() - began
    want = faults.describe(folder / "runs" / "a")
    rng, num_kills, num_runs = random.Random(0), 0, 0
    while num_kills < NUM_KILLS:
        folder = tmp_path / f"run{num_runs}"
        folder.mkdir()
        for _ in range(5):
            is_killed = _kill(folder, rng.uniform(0.3, 0.95) * seconds)
            num_kills += is_killed
            if not is_killed:
                break
        job = faults.train(folder, EPOCHS, "--resume")
        assert job.wait() == 0, job.read()
        assert faults.describe(folder / "runs" / "a") == want
        shutil.rmtree(folder)
        num_runs += 1
    print(f"\n{num_kills} kills in {num_runs} runs: {num_runs} ended as if left alone")


def _kill(folder, seconds):
    """Tells whether a run was killed before its end."""
    job = faults.train(folder, EPOCHS, "--resume")
    if not job.ends_within(seconds):
        with contextlib.suppress(ProcessLookupError):  # It may have just ended.
            os.kill(job.pid, signal.SIGKILL)
    status = job.wait()
    assert status in (0, -signal.SIGKILL), job.read()
    return status != 0
