"""Runs resumed in mid-epoch are those left alone, for each source of examples."""

import json
import os
import pathlib
import signal

import forks
import keras
import numpy as np
import pytest
import tensorflow as tf
import test_strategies

import tfreg
from tfreg import data
from tfreg.runs import history, hooks, signals, trainer
from tfreg.training import loop, manifests, step, strategies

COUNT, BATCH, SEED = 45, 8, 3


class Silent:
    """Shows no progress."""

    def update(self, *args):
        pass

    def end_epoch(self, *args):
        pass


def make_arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, 6, 6, 1)).astype(np.float32)
    return x, (x[:, 0, 0] > 0).astype(np.float32)


class Recorded(list):
    """A list that notes which examples are read."""

    def __init__(self, examples):
        super().__init__(examples)
        self.read = []

    def __getitem__(self, i):
        self.read.append(int(i))
        return super().__getitem__(i)


def make_source(kind):
    arrays = make_arrays()
    if kind == "recorded":
        return data.Indexed(Recorded(zip(*arrays, strict=True)), threads=2)
    if kind == "indexed":
        return data.Indexed(list(zip(*arrays, strict=True)), threads=2)
    if kind == "held":
        return data.Split(*arrays)

    def make(seed, epoch):
        order = data.permute(COUNT, seed, epoch).astype(np.int64)
        rows = tf.data.Dataset.from_tensor_slices(order).batch(BATCH)
        return rows.map(lambda r: tuple(tf.gather(a, r) for a in arrays))

    return data.Pipeline(make)


def make_trainer(kind, directory, precision="float32", **options):
    keras.utils.set_random_seed(1)
    policy = keras.mixed_precision.Policy(
        "mixed_float16" if precision == "float16" else precision
    )
    parts = [
        keras.layers.Flatten(dtype=policy),
        keras.layers.Dense(5, "relu", dtype=policy),
        keras.layers.BatchNormalization(dtype=policy),
        keras.layers.Dropout(0.3, dtype=policy),
        keras.layers.Dense(1, dtype=policy),
    ]
    train = step.Step(
        keras.Sequential([keras.layers.Input([6, 6, 1]), *parts]),
        tfreg.losses.sigmoid_cross_entropy,
        keras.optimizers.Adam(0.01),
        precision=precision,
        metrics={"auc": keras.metrics.AUC(from_logits=True)},
    )
    change = [data.augment.flip(), data.augment.crop(1)]
    usual = {"batch_size": BATCH, "seed": SEED, "compile": "graph"}
    made = loop.Loop(
        train,
        make_source(kind),
        augment=change,
        **usual | {"steps_per_call": 2} | options,
    )
    validation = data.Split(*make_arrays())
    return trainer.Trainer(
        made, validation, directory, checkpoint_every="2", histograms=False
    )


def interrupt_after(calls):
    left = iter(range(calls))
    return lambda: next(left, None) is None


def describe(folder):
    """Returns the newest checkpoint's step, values, and history without times."""
    path = manifests.list_newest_first(folder / "checkpoints")[0]
    reader = tf.train.load_checkpoint(str(path / "state"))
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("_VALUE")]
    values = {n: np.asarray(reader.get_tensor(n)).tobytes() for n in names}
    history = manifests.verify(path)[1]["history"]
    kept = {k: v for k, v in history.items() if k not in ("speeds", "seconds")}
    return path.name, values, kept


def collect(reports):
    progress = Silent()
    progress.end_epoch = lambda epoch, *pair: reports.append(
        (epoch, *(report.get_scalars() for report in pair[:2]))
    )
    return progress


CASES = [
    ("indexed", "float32"),
    ("pipeline", "float32"),
    ("held", "float16"),
]


@pytest.mark.parametrize(("kind", "precision"), CASES)
def test_a_keras_model_resumed_in_mid_epoch_is_the_one_left_alone(
    tmp_path, kind, precision
):
    alone, parts, wanted, found = tmp_path / "alone", tmp_path / "parts", [], []
    alone.mkdir()
    parts.mkdir()
    make_trainer(kind, alone, precision).run(2, progress=collect(wanted))
    with pytest.raises(signals.Interrupted):
        first = make_trainer(kind, parts, precision)
        first.run(2, progress=collect(found), is_interrupted=interrupt_after(2))
    assert 0 < first.num_steps < first.loop.steps_per_epoch
    second = make_trainer(kind, parts, precision)
    second.restore(parts)
    assert second.history.sums["states"]["auc"]
    second.run(2, progress=collect(found))
    assert found == wanted
    assert describe(parts) == describe(alone)


def test_a_resumed_run_that_forgets_the_sums_is_another(tmp_path):
    alone, parts, wanted, found = tmp_path / "alone", tmp_path / "parts", [], []
    alone.mkdir()
    parts.mkdir()
    make_trainer("held", alone).run(1, progress=collect(wanted))
    with pytest.raises(signals.Interrupted):
        make_trainer("held", parts).run(
            1, progress=collect(found), is_interrupted=interrupt_after(2)
        )
    again = make_trainer("held", parts)
    restore = again.restore

    def forget(path):
        metadata = restore(path)
        again.history.sums = {}
        return metadata

    again.restore = forget
    again.run(1, progress=collect(found))
    assert found[0][1]["auc"] != wanted[0][1]["auc"]


def test_steps_that_adapt_save_where_it_is_due(tmp_path):
    made = make_trainer("held", tmp_path, steps_per_call=None)
    made._saved = history.Saved("20")
    saved = []

    def note(event):
        if isinstance(event, hooks.Saved):
            saved.append(event.step)

    made.hooks = [note]
    made.run(10, progress=Silent())
    assert saved[0] == 0
    assert saved[-1] == 60
    # At the first end of a call, at most an epoch long, that is 20 steps later.
    assert all(20 <= b - a <= 26 for a, b in zip(saved, saved[1:-1], strict=False))


def train_in_process(kind, kill_at):
    """Trains and, where asked to, kills its own process at a report of that step."""
    made = make_trainer(kind, pathlib.Path("run"))
    progress = Silent()

    def update(*args):
        if made.num_steps >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    progress.update = update
    made.run(3, progress=progress)
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["indexed", "pipeline"])
def test_a_killed_run_resumes_to_the_bit(tmp_path, kind):
    for name, kills in {"alone": [], "killed": [4, 8]}.items():
        folder = tmp_path / name
        folder.mkdir()
        for kill_at in kills:
            job = forks.Job(folder, train_in_process, kind, kill_at)
            assert job.wait() == -signal.SIGKILL, job.read()
        job = forks.Job(folder, train_in_process, kind, 10**9)
        assert job.wait() == 0, job.read()
    assert describe(tmp_path / "killed/run") == describe(tmp_path / "alone/run")


def train_worker(kind, directory, calls):
    """Trains for two epochs or some calls; writes the losses and what it read.

    After a negative number of calls it is killed.
    """
    strategy = strategies.make_strategy(kind)
    is_chief = strategies.is_chief(strategy)
    with strategy.scope():
        made = make_trainer(
            "recorded", directory if is_chief else None, strategy=strategy
        )
    source = made.loop.source.source
    source.read.clear()
    if manifests.list_newest_first(directory / manifests.FOLDER):
        made.restore(directory)
    reports = []
    try:
        ends = interrupt_after(abs(calls)) if calls else lambda: False

        def is_interrupted():
            ended = ends()
            if ended and calls < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return ended

        made.run(2, progress=collect(reports), is_interrupted=is_interrupted)
    except signals.Interrupted:
        assert calls
    losses = [report["loss/total"] for _, report, _ in reports]
    written = {"losses": losses, "read": sorted(source.read)}
    pathlib.Path("written.json").write_text(json.dumps(written))
    return 0


def read(path):
    return json.loads((path / "written.json").read_text())


@pytest.mark.slow
def test_two_workers_read_each_example_once_and_resume_to_the_bit(tmp_path):
    for name, parts in {"alone": [0], "whole": [0], "parts": [2, -3, 0]}.items():
        directory = tmp_path / f"{name}.run"
        directory.mkdir()
        for calls in parts:
            folder = tmp_path / f"{name}{calls}"
            if name == "alone":
                args = train_worker, "one", directory, calls
                jobs = [test_strategies.start(folder, *args)]
            else:
                args = train_worker, "multi_worker", directory, calls
                jobs = test_strategies.start_workers(folder, 2, *args)
            statuses = [job.wait() for job in jobs]
            if calls < 0:  # The other worker may notice before it is killed.
                assert all(statuses) and -signal.SIGKILL in statuses
            else:
                assert not any(statuses), jobs[0].read_errors()
    assert describe(tmp_path / "parts.run") == describe(tmp_path / "whole.run")
    workers = [read(tmp_path / f"whole0/worker{i}") for i in range(2)]
    assert workers[0]["losses"] == workers[1]["losses"]
    twice = [*range(COUNT), *range(COUNT)]  # In two epochs.
    measured = [0, 0]  # An epoch measures the first example, for the size of a block.
    assert read(tmp_path / "alone0")["read"] == sorted(measured + twice)
    found = workers[0]["read"] + workers[1]["read"]
    assert sorted(found) == sorted(measured + measured + twice)
    assert min(len(worker["read"]) for worker in workers) > COUNT / 2
