"""A disk that is full, read-only or limited ends a training in one sentence."""

import contextlib
import errno
import itertools
import os
import re
import resource
import subprocess

import faults
import forks
import pytest

from tfreg.training import manifests

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


def may_mount(folder):
    """Returns whether this process may mount a disk."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


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
        newest = manifests.list_newest_first(tmp_path / "runs" / "a" / "checkpoints")
        assert manifests.verify(newest[0])[0] > 0
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


def _train_with_small_files(size, pipe, argv):
    # What is printed must not be small: a pipe has no size.
    with open(pipe, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return faults.train_with(argv)


@pytest.mark.parametrize("size", [0, 512, 4096])  # The last is too small for events.
def test_files_that_must_be_small_end_it_in_a_sentence(tmp_path, size):
    faults.write_points(tmp_path / "points.npz")
    argv = faults.get_flags(tmp_path) + [EPOCHS]
    os.mkfifo(tmp_path / "pipe")
    arguments = size, str(tmp_path / "pipe"), argv
    job = forks.Job(tmp_path, _train_with_small_files, *arguments)
    printed = (tmp_path / "pipe").read_text()
    assert job.wait() == (6 if size < 4096 else 0), printed
    assert "Traceback" not in printed
    told = "error: " if size < 4096 else "no more events for TensorBoard: "
    assert printed.count(told) == 1
    assert re.search(rf"^{told}'runs/a.* got File too large: .*$", printed, re.M)


def _train_with_a_bad_sync(number, argv):
    """Trains; the n-th fsync fails, as it does where the disk has lost a write."""
    numbers, sync = itertools.count(1), os.fsync

    def fail(descriptor):
        if next(numbers) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    os.fsync = fail
    return faults.train_with(argv)


@pytest.mark.parametrize("number", range(1, 31 if faults.WHOLE else 4))
def test_a_training_in_which_an_fsync_fails_names_the_place(tmp_path, number):
    faults.write_points(tmp_path / "points.npz")
    argv = faults.get_flags(tmp_path) + ["--epochs=1"]
    job = forks.Job(tmp_path, _train_with_a_bad_sync, number, argv)
    status = job.wait()
    place = r"'(\.|runs(/a.*)?)' must be (readable or )?writ(able|ten), got Input"
    assert re.search(place, job.read())
    if status:
        check_end(job)
    else:  # Points for TensorBoard are no reason to stop.
        assert "no more events for TensorBoard" in job.read()
