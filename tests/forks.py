"""Processes that don't import TensorFlow again: forks of one that has.

    job = forks.Job(folder, forks.run_script, "train", ["--reg=l2"])
    assert job.wait() == 0, job.read()

The import takes seconds of a CPU and computes nothing: where no operation has run, a
fork is as good as a new process. Claims about the start itself need a new one.
"""

import contextlib
import multiprocessing
import os
import pathlib
import sys

from tfreg.cli import commands

SCRIPTS = pathlib.Path(__file__).resolve().parents[1] / "scripts"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tfreg.cli.train", "tfreg.runs.runner"])


class Job:
    """A function in a process of its own, which returns its exit status.

    Args:
        folder: its working directory.
        call: of the module's top level.
        *args: of it, that can be pickled.
        log: in the folder, for what it prints.
        errors: likewise for standard error; None: in the same file.
        environment: variables to set, or with None to unset.
    """

    def __init__(
        self, folder, call, *args, log="log.txt", errors=None, environment=None
    ):
        self.log = folder / log
        self.errors = self.log if errors is None else folder / errors
        arguments = folder, self.log, self.errors, environment or {}, call, args
        self._process = _context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def ends_within(self, seconds):
        """Waits that long at most; tells whether it has ended."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def wait(self, seconds=300):
        """Returns the exit status, minus the signal's number where one killed it."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it still runs: {self.read()}"
        return self._process.exitcode

    def read(self):
        """Returns what it printed."""
        return self.log.read_text() if self.log.exists() else ""

    def read_errors(self):
        """Returns what it printed to standard error, where that has its own file."""
        return self.errors.read_text() if self.errors.exists() else ""


def _run(folder, log, errors, environment, call, args):
    os.chdir(folder)
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    file = os.open(log, flags, 0o644)
    os.dup2(file, 1)
    os.dup2(file if errors == log else os.open(errors, flags, 0o644), 2)
    status = call(*args)
    with contextlib.suppress(OSError, ValueError):  # It may be closed, or full.
        sys.stdout.flush()
    os._exit(status)


def run_script(name, argv):
    """Runs `tfreg NAME` with flags, as scripts/NAME.py; returns its exit status."""
    return commands.run(name, [f"tfreg {name}", *argv])
