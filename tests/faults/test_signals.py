"""A signal ends a training at once, wherever it is, and loses nothing."""

import itertools
import os
import pathlib
import random
import signal
import time

import faults
import forks
import pytest

from tfreg.runs import builder
from tfreg.training import checkpoints, loop, manifests

NUM_SIGNALS = 10 if faults.WHOLE else 1
PHASES = {
    "start": (builder, "build", 1),
    "the first save": (checkpoints, "save", 1),
    "evaluation": (loop.Loop, "evaluate", 2),
    "saving": (checkpoints, "save", 3),
}
CASES = list(itertools.product(PHASES, (signal.SIGINT, signal.SIGTERM)))
FLAGS = ["--run_name=a", "--reg=l2", "--checkpoint_every=50", "--epochs=3"]


def _train_slowly(phase, argv):
    """Trains; a phase begins with a file `begun` and a wait, so that it is met."""
    place, name, number = PHASES[phase]
    call, numbers = getattr(place, name), itertools.count(1)

    def wait_and_call(*args, **kwargs):
        if next(numbers) == number:
            pathlib.Path("begun").touch()
            time.sleep(0.5)
        return call(*args, **kwargs)

    setattr(place, name, wait_and_call)
    return faults.train_with(argv)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_of_the_default_sizes(tmp_path, number):
    rng, waits = random.Random(0), []
    for i in range(NUM_SIGNALS):
        argv = [f"--run_name=run{i}", "--epochs=100000", "--reg=l2"]
        job = forks.Job(tmp_path, faults.train_with, argv, log=f"log{i}.txt")
        while "steps/s" not in job.read():
            time.sleep(0.05)
        time.sleep(rng.random())
        began = time.monotonic()
        os.kill(job.pid, number)
        assert job.wait() == 128 + number, job.read()
        waits.append(time.monotonic() - began)
        assert f"saved in runs/run{i}" in job.read()
        path = tmp_path / "runs" / f"run{i}" / "checkpoints"
        manifests.verify(manifests.list_newest_first(path)[0])
    print(f"\n{len(waits)} signals {number}: the slowest end took {max(waits):.2f} s")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Returns how a run of the default sizes, left alone, is described."""
    folder = tmp_path_factory.mktemp("alone")
    job = forks.Job(folder, faults.train_with, FLAGS)
    assert job.wait() == 0, job.read()
    return faults.describe(folder / "runs" / "a")


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "number"), CASES if faults.WHOLE else CASES[3:5])
def test_a_signal_ends_any_phase_and_the_run_goes_on(tmp_path, alone, phase, number):
    job = forks.Job(tmp_path, _train_slowly, phase, FLAGS)
    while not (tmp_path / "begun").exists():
        assert not job.ends_within(0.01), job.read()
    os.kill(job.pid, number)
    assert job.wait() == 128 + number, job.read()
    is_saved = "saved in runs/a\n" in job.read()
    assert is_saved == (phase in ("evaluation", "saving")), job.read()
    job = forks.Job(tmp_path, faults.train_with, [*FLAGS, "--resume"])
    assert job.wait() == 0, job.read()
    assert faults.describe(tmp_path / "runs" / "a") == alone
