"""What faults are tried on: forked trainings, saves, and what they left behind.

    job = faults.train(folder, "--epochs=3")  # tfreg train, in a fork
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL

The whole of the suite is `TFREG_FAULTS=whole python -m pytest tests/faults -s`.
"""

import hashlib
import json
import os
import subprocess
import time

import forks
import numpy as np
import tensorflow as tf

from tfreg.cli import process
from tfreg.runs import config, directories
from tfreg.training import checkpoints, files, manifests

WHOLE = os.environ.get("TFREG_FAULTS") == "whole"
VOLATILE = ("wall_seconds", "steps_per_second")
STATUSES = {0, 2, 3, 4, 5, 6, 75}  # That a user's mistake or a fault may end with.


def train_with(argv):
    """Runs `tfreg train` with flags; returns its exit status."""
    return forks.run_script("train", argv)


def get_flags(folder):
    """Returns flags of a training on a few points, in runs/a, that saves often."""
    return [
        "--dataset=npz",
        f"--data_dir={folder / 'points.npz'}",
        "--hidden=4",
        "--batch_size=6",
        "--strategy=one",
        "--run_name=a",
        "--dropout=0.4",
        "--reg=l2(1e-2)@kernel;l1(1e-2)@activity",
        "--checkpoint_every=2",
    ]


def train(folder, *flags, log="log.txt", environment=None):
    """Starts such a training in `folder`, with more flags."""
    if not (folder / "points.npz").exists():
        write_points(folder / "points.npz")
    argv = [*get_flags(folder), *flags]
    return forks.Job(folder, train_with, argv, log=log, environment=environment)


def write_points(path, count=90):
    """Writes three classes of points in the plane, 60 of them to train on."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = (rng.normal(size=(count, 2)) + 2 * np.eye(3)[y][:, :2]).astype(np.float32)
    parts = {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]}
    np.savez(path, **parts)


def describe(directory):
    """Returns what a finished run is compared by: state, result and files."""
    newest = manifests.list_newest_first(directory / "checkpoints")[0]
    step, _ = manifests.verify(newest)
    reader = tf.train.load_checkpoint(str(newest / "state"))
    digest = hashlib.sha256()
    for name in sorted(reader.get_variable_to_shape_map()):
        if name.endswith("_VALUE"):
            digest.update(name.encode() + np.asarray(reader.get_tensor(name)).tobytes())
    result = json.loads((directory / "result.json").read_text())
    result = {key: value for key, value in result.items() if key not in VOLATILE}
    names = {path.name for path in directory.rglob("*") if "tfevents" not in path.name}
    return step, digest.hexdigest(), result, sorted(names)


class Values(tf.Module):
    """Two variables and a step, all of one value."""

    def __init__(self, value=0.0, width=64):
        self.kernel = tf.Variable(tf.fill([width, 64], value))
        self.bias = tf.Variable(tf.fill([64], value))
        self.step = tf.Variable(int(value), dtype=tf.int64)

    def fill(self, value):
        """Sets all to a value."""
        for variable in self.variables:
            variable.assign(tf.cast(tf.fill(variable.shape, value), variable.dtype))

    def get_value(self):
        """Returns the value that all have."""
        found = {float(x) for v in self.variables for x in np.ravel(v.numpy())}
        assert len(found) == 1
        return found.pop()


def save(directory, value):
    """Saves Values as the state of the step of that number."""
    return checkpoints.save(directory, value, {"values": Values(float(value))})


def restore(directory):
    """Returns the newest whole step; fails where its values are others."""
    values, told = Values(), []
    step, _ = checkpoints.restore(directory, {"values": values}, told.append)
    assert values.get_value() == step
    return step, told


def save_when_told(directory, values, go, synced=True, claims=False):
    """Saves once there is a file `go`; returns an exit status, as a script does.

    With `claims`, it first makes the run's directory, as a training does. After each
    save there is a directory `done-VALUE` beside `go`, for whoever traces.
    """
    run = directory.parent
    state = {"values": Values(float(values[0]))}
    checkpoints.save(go.parent / "warm", 1, state)  # All that is done once.
    if not synced:
        files.sync = lambda path: None

    def command():
        (go.parent / "ready").touch()
        while not go.exists():
            time.sleep(0.001)
        if not claims:
            return save_all()
        with directories.claim(run) as claim:
            claim.prepare()
            directories.write_config(run, config.Config(run_name="a").to_json())
            return save_all()

    def save_all():
        for value in values:
            state["values"].fill(value)
            checkpoints.save(directory, value, state)
            (go.parent / f"done-{value}").mkdir()
        return 0

    return process.run(command)


class Traced:
    """A process that saves the values under strace with some options; has waited.

    Args:
        folder: has `checkpoints`, with earlier saves, or `logs` where it claims.
        options: of strace.
        values: to be saved.
        synced: whether the process calls fsync.
        claims: whether it makes a run, `logs/runs/a`, and saves in there.
    """

    def __init__(self, folder, options, values=(3,), synced=True, claims=False):
        for name in ("ready", "go"):
            (folder / name).unlink(missing_ok=True)
        go = folder / "go"
        directory = folder / ("logs/runs/a" if claims else "") / "checkpoints"
        arguments = directory, values, go, synced, claims
        job = forks.Job(folder, save_when_told, *arguments)
        while not (folder / "ready").exists():
            time.sleep(0.01)
        log = folder / "strace.txt"
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-p", str(job.pid), "-o", str(log), *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        told = tracer.stderr.readline()
        assert "attached" in told, told
        go.touch()
        self.status, self.printed = job.wait(), job.read()
        tracer.communicate()
        self.trace = log.read_text()
