"""A save that is killed or fails at any of its system calls loses nothing before it."""

import shutil
import signal
import subprocess

import faults
import pytest

from tfreg.training import manifests

CALLS = {
    "openat": "openat",
    "write": "write,pwrite64,writev",
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "unlink": "unlink,unlinkat,rmdir",
    "mkdir": "mkdir,mkdirat",
}
ERRORS = ("ENOSPC", "EIO", "EROFS")
EVERY = 1 if faults.WHOLE else 3  # How many calls lie between two that are tried.


def can_trace():
    """Tells whether strace is there and may attach."""
    if shutil.which("strace") is None:
        return False
    sleeper = subprocess.Popen(["sleep", "60"])
    options = ["-e", "trace=none", "-p", str(sleeper.pid)]
    tracer = subprocess.Popen(["strace", *options], stderr=subprocess.PIPE, text=True)
    told = tracer.stderr.readline()
    sleeper.kill()
    tracer.communicate()
    sleeper.wait()
    return "attached" in told


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_trace(), reason="strace must be there and may attach"),
]


def try_all(folder, calls, fault):
    """Gives what a save left, for a fault at each n-th of the calls."""
    number = 1
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        directory = folder / "checkpoints"
        directory.mkdir(parents=True)
        for value in (1, 2):
            faults.save(directory, value)
        inject = f"inject={CALLS[calls]}:{fault}:when={number}"
        options = ["-e", f"trace={CALLS[calls]}", "-e", inject]
        done = faults.Traced(folder, options)
        if done.status == 0 and "INJECTED" not in done.trace:
            assert faults.restore(directory) == (3, [])
            return
        yield directory, done
        number += EVERY


def check_that_it_goes_on(directory):
    """Checks that the saves before it are there, and that another leaves no trace."""
    step, told = faults.restore(directory)
    assert step in (2, 3) and not told
    faults.save(directory, 4)
    found = {path.name for path in directory.iterdir()}
    assert found == {f"step-{step:010d}", "step-0000000004"}
    assert faults.restore(directory) == (4, [])


@pytest.mark.parametrize("calls", CALLS)
def test_a_save_killed_at_any_call(tmp_path, calls):
    count = 0
    for directory, done in try_all(tmp_path / "run", calls, "signal=SIGKILL"):
        assert done.status == -signal.SIGKILL
        check_that_it_goes_on(directory)
        count += 1
    assert count
    print(f"\n{calls}: {count} kills, {count} went on")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("calls", CALLS)
def test_a_save_in_which_any_call_fails(tmp_path, calls, error):
    count, num_refused = 0, 0
    for directory, done in try_all(tmp_path / "run", calls, f"error={error}"):
        count += 1
        if done.status == 0:  # It was of no matter, as an older save's removal.
            assert done.printed == ""
            assert faults.restore(directory)[0] == 3
            manifests.verify(directory / "step-0000000003")
        else:
            num_refused += 1
            assert done.status == 6, done.printed
            assert done.printed.startswith("error: ") and done.printed.count("\n") == 1
        check_that_it_goes_on(directory)
    assert count
    print(f"\n{calls}, {error}: {count} failures, {num_refused} told with status 6")
