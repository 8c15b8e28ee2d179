"""A disk that is full, read-only or limited ends a training in one sentence."""

import contextlib
import os
import resource
import subprocess

import faults
import pytest

from tfreg import checkpoints

EPOCHS = "--epochs=20"

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def mounted(folder, *arguments):
    """Mounts something on a directory, or skips the test where that isn't allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", *arguments, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount must be allowed, got {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_end(job, status=6):
    """Checks that a training has ended in one sentence, after the table and epochs."""
    assert job.wait() == status, job.read()
    assert "Traceback" not in job.read()
    errors = [line for line in job.read().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and job.read().splitlines()[-1] == errors[0]


def train_alone(folder):
    """Returns how a run that nothing disturbs is described."""
    folder.mkdir()
    job = faults.train(folder, EPOCHS)
    assert job.wait() == 0, job.read()
    return faults.describe(folder / "runs" / "a")


def test_a_full_disk_and_then_room(tmp_path):
    want = train_alone(tmp_path / "alone")
    with mounted(tmp_path / "runs", "-t", "tmpfs", "-o", "size=80k", "tmpfs"):
        check_end(faults.train(tmp_path, EPOCHS))
        newest = checkpoints.list_newest_first(tmp_path / "runs" / "a" / "checkpoints")
        assert checkpoints.verify(newest[0])[0] > 0
        check_end(faults.train(tmp_path, EPOCHS, "--resume"))
        remount = ["mount", "-o", "remount,size=8m", str(tmp_path / "runs")]
        subprocess.run(remount, check=True)
        job = faults.train(tmp_path, EPOCHS, "--resume")
        assert job.wait() == 0, job.read()
        assert faults.describe(tmp_path / "runs" / "a") == want


def test_a_disk_that_is_read_only(tmp_path):
    job = faults.train(tmp_path, EPOCHS)
    assert job.wait() == 0, job.read()
    want = faults.describe(tmp_path / "runs" / "a")
    seen = tmp_path / "seen"
    with mounted(seen, "--bind", "-o", "ro", str(tmp_path / "runs")):
        try:
            (seen / "probe").touch()
        except OSError:
            pass
        else:
            pytest.skip("a bind mount must be allowed to be read-only")
        for flags in (
            ["--resume", "--epochs=40"],
            [EPOCHS, "--overwrite"],
            [EPOCHS, "--run_name=b"],
        ):
            check_end(faults.train(tmp_path, "--logdir=seen", *flags))
    assert faults.describe(tmp_path / "runs" / "a") == want


def _train_with_small_files(size, argv):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return faults.run_script(argv)


def test_files_that_must_be_small(tmp_path):
    faults.write_points(tmp_path / "points.npz")
    argv = faults.get_flags(tmp_path) + [EPOCHS]
    # The output goes through a pipe, which has no size.
    job = faults.Job(tmp_path, os.devnull, _train_with_small_files, 512, argv)
    assert job.wait() == 6
