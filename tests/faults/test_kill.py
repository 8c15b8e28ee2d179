"""A run that is killed at any moment ends, resumed, as the run left alone."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import time

import faults
import pytest

from tfreg.runs import directories

NUM_KILLS = 200 if faults.WHOLE else 6
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


def test_an_overwrite_that_is_killed_half_way_can_be_repeated(tmp_path, monkeypatch):
    names = ("config.json", "result.json", "checkpoints", "train", "validation")
    remove, path = directories._remove, tmp_path / "a"
    # The file system's order is any: this one has config.json early.
    monkeypatch.setattr(
        pathlib.Path,
        "iterdir",
        lambda self: sorted(map(self.joinpath, os.listdir(self))),
    )
    for number in range(len(names)):
        for name in names:
            (path / name).mkdir(parents=True, exist_ok=True)
        (path / "config.json").rmdir()
        (path / "config.json").touch()
        left = [remove] * number

        def remove_or_die(entry, left=left):
            if not left:
                raise KeyboardInterrupt  # It stands for the kill.
            left.pop()(entry)

        monkeypatch.setattr(directories, "_remove", remove_or_die)
        killed = pytest.raises(KeyboardInterrupt)
        with killed, directories.claim(path, overwrite=True) as claim:
            claim.prepare()
        monkeypatch.setattr(directories, "_remove", remove)
        with directories.claim(path, overwrite=True) as claim:
            claim.prepare()
            assert not list(path.iterdir())
