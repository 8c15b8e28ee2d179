"""A Trainer gives a loop of one's own all that a run of train.py has."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import tfreg
from tfreg import data, optimizers
from tfreg.runs import directories, history, hooks, signals
from tfreg.training import manifests, recovery

SIZE, BATCH = 60, 8  # Eight steps an epoch, the last of four examples.


class Silent:
    def update(self, epoch, report, speed):
        """Records nothing."""

    def end_epoch(self, epoch, train, validation, speed):
        """Records nothing."""


def make_split(size=SIZE):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(size, 6)).astype(np.float32)
    return data.Split(x, (x[:, 0] + x[:, 1] > 0).astype(np.int32))


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu", name="dense"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(2, name="head"),
        ],
        name="net",
    )


def make_optimizer():
    rate = tfreg.schedules.linear(0.05, 0.0, 40)
    return optimizers.groups(
        [("head", optimizers.adam(rate)), (".*", keras.optimizers.SGD(0.1), 1)]
    )


def make_trainer(directory=None, optimizer=make_optimizer, steps=3, **options):
    model = make_model()
    with tfreg.Store().as_default():  # It numbers the penalties of equal names.
        tfreg.rules.apply("decay(1e-2)@kernel;l2_sp(1e-2)@kernel:.*head", model)
    step = tfreg.Step(
        model,
        tfreg.losses.sparse_softmax_cross_entropy,
        optimizer(),
        after=[optimizers.max_norm(1.5), optimizers.ema(0.5)],
    )
    # A tenth of the time of XLA, whose runs are resumed in faults/.
    given = {"steps_per_call": steps, "compile": "graph"}
    loop = tfreg.Loop(step, make_split(), BATCH, seed=0, **given)
    options = {"checkpoint_every": "3", "log": lambda text: None} | options
    return tfreg.Trainer(loop, make_split(20), directory, **options)


def read(trainer):
    step = trainer.loop.step
    return [v.numpy() for part in step.get_state().values() for v in part.variables]


def stop_after(calls):
    left = [None] * calls
    return lambda: not left or bool(left.pop())


def run(trainer, epochs=4, **options):
    return trainer.run(epochs, progress=Silent(), **options)


def test_a_run_in_parts_ends_as_the_run_left_alone_to_the_bit(tmp_path):
    alone = make_trainer(tmp_path / "alone", patience=9)
    want = run(alone)
    for calls in (2, 5, 3):
        part = make_trainer(tmp_path / "parts", patience=9)
        with pytest.raises(signals.Interrupted):
            run(part, is_interrupted=stop_after(calls))
    last = make_trainer(tmp_path / "parts", patience=9)
    got = run(last)
    for a, b in zip(read(last), read(alone), strict=True):
        np.testing.assert_array_equal(a, b)
    same = ("steps", "train", "validation", "best_step", "parameters")
    assert {k: got[k] for k in same} == {k: want[k] for k in same}
    # A finished run is what it was, with its weights.
    again = make_trainer(tmp_path / "parts", patience=9)
    assert run(again)["validation"] == want["validation"]
    assert again.loop.evaluate(make_split(20)).loss == want["validation"]["loss"]


def test_a_directory_has_what_a_run_of_train_py_leaves(tmp_path):
    config = {"rate": 0.05, "widths": [8], "name": "mine"}
    seen = []

    def note(event):
        seen.append(type(event).__name__)
        if isinstance(event, hooks.EpochEnded):
            event.trainer.log_scalar("mine/epoch", event.epoch)
            event.trainer.log_image("mine/image", np.zeros([4, 4, 3], np.uint8))
            event.trainer.log_text("mine/text", "**bold**")

    trainer = make_trainer(tmp_path / "a", config=config, hooks=[note])
    result = run(trainer, 2)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == result
    assert result["steps"] == 16 and result["train"]["loss/data"] > 0
    saved = json.loads((tmp_path / "a" / "config.json").read_text())["trainer"]
    assert saved["config"] == config and saved["data"]["batch_size"] == BATCH
    assert set(seen) == {"StepsEnded", "EpochEnded", "Saved", "Stopped"}
    assert seen.count("EpochEnded") == 2 and seen[-1] == "Stopped"
    events = event_accumulator.EventAccumulator(str(tmp_path / "a" / "train"))
    events.Reload()
    tags = events.Tags()
    assert "mine/epoch" in events.Tags()["tensors"] and "mine/image" in tags["tensors"]
    with pytest.raises(directories.DirectoryError, match="a script's own Trainer"):
        directories.read_config(tmp_path / "a" / "config.json")


def test_the_averaged_weights_are_evaluated_and_kept():
    trainer = make_trainer(patience=50)
    result = run(trainer, 3)
    raw = make_trainer()
    for epoch in range(3):
        raw.loop.train(epoch)
    with raw.loop.step.ema.applied():
        want = raw.loop.evaluate(make_split(20))
    if trainer.history.best_step == 24:
        assert result["validation"]["loss"] == pytest.approx(want.loss, rel=1e-6)
    assert trainer.loop.evaluate(make_split(20)).loss == result["validation"]["loss"]
    without = make_trainer()
    averaged = run(without, 3)["validation"]["loss"]
    assert averaged == pytest.approx(want.loss, rel=1e-6)
    assert averaged != without.loop.evaluate(make_split(20)).loss


@pytest.mark.parametrize(
    ("monitor", "mode", "better"),
    [
        ("validation/accuracy", "auto", max),
        ("train/loss/total", "auto", min),
        ("validation/loss/data", "max", max),
    ],
)
def test_the_best_weights_go_by_what_is_monitored(monitor, mode, better):
    values = []

    def note(event):
        if isinstance(event, hooks.EpochEnded):
            name, _, tag = monitor.partition("/")
            report = event.train if name == "train" else event.validation
            values.append(report[tag])

    trainer = make_trainer(monitor=monitor, mode=mode, patience=2, hooks=[note])
    run(trainer, 30)
    assert trainer.history.best_value == better(values)
    first = values.index(better(values))
    assert trainer.history.best_step == 8 * (first + 1)
    assert len(values) in (30, first + 3)


def test_a_hook_stops_the_run_for_good(tmp_path):
    def stop(event):
        if isinstance(event, hooks.StepsEnded) and event.step >= 11:
            event.trainer.stop("enough")

    result = run(make_trainer(tmp_path / "a", hooks=[stop]))
    assert result["stopped"] == "enough" and 11 <= result["steps"] < 16
    again = run(make_trainer(tmp_path / "a"))
    assert again["steps"] == result["steps"]


def test_a_hook_that_raises_is_named_and_the_run_saved(tmp_path):
    def fail(event):
        if event.step == 6:
            raise KeyError("missing")

    broken = make_trainer(tmp_path / "a", hooks=[fail], checkpoint_every="100")
    message = (
        r"the hook fail must not raise, got KeyError \('missing'\) at StepsEnded.*"
    )
    with pytest.raises(hooks.HookError, match=message + "saved in .* after step 6"):
        run(broken)
    fixed = make_trainer(tmp_path / "a", checkpoint_every="100")
    alone = make_trainer()
    run(fixed), run(alone)
    for a, b in zip(read(fixed), read(alone), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path / "a")
    trainer.loop.source.x[7] = np.nan
    with pytest.raises(recovery.LossError, match="the last good checkpoint is "):
        run(trainer)
    manifests.verify(next((tmp_path / "a" / "checkpoints").glob("step-*")))


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "a")
    write = tf.train.Checkpoint.write
    written = []

    def write_or_fail(self, *args, **options):
        written.append(args)
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        return write(self, *args, **options)

    monkeypatch.setattr(tf.train.Checkpoint, "write", write_or_fail)
    with pytest.raises(OSError, match="must be written, got No space left on device: "):
        run(trainer)
    monkeypatch.undo()
    resumed, alone = make_trainer(tmp_path / "a"), make_trainer()
    run(resumed), run(alone)
    for a, b in zip(read(resumed), read(alone), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_directory_has_one_process(tmp_path):
    (tmp_path / "a").mkdir()
    with directories.claim(tmp_path / "a"), pytest.raises(directories.BusyError):
        run(make_trainer(tmp_path / "a"))


def sgd():
    return optimizers.sgd(0.1)


def other_groups():
    return optimizers.groups([("dense.*", optimizers.sgd(0.1)), (".*", sgd())])


def test_other_data_than_the_run_began_with_are_refused(tmp_path):
    make_trainer(tmp_path / "run").run(1, progress=Silent())
    files = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    changed = make_trainer(tmp_path / "run")
    changed.loop.source.y[3] = 1 - changed.loop.source.y[3]
    with pytest.raises(manifests.CheckpointError, match="data that it began with"):
        changed.run(2, progress=Silent())
    assert files == {
        p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"rate": 0.5}}, r"config/rate 0.1, not 0.5: use another directory"),
        ({"optimizer": other_groups}, "trainer|optimizer .*, not .*dense"),
    ],
)
def test_another_run_in_the_directory_is_refused(options, message, tmp_path):
    run(make_trainer(tmp_path / "a", config={"rate": 0.1}), 1)
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "a").rglob("*"))
    with pytest.raises(directories.DirectoryError, match=message):
        run(make_trainer(tmp_path / "a", **({"config": {"rate": 0.1}} | options)))
    after = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "a").rglob("*"))
    assert after == before


def test_resume_insists(tmp_path):
    with pytest.raises(directories.DirectoryError, match="resume must name a run"):
        run(make_trainer(tmp_path / "a"), resume=True)
    assert not (tmp_path / "a").exists()
    run(make_trainer(tmp_path / "a"), 1, resume=False)
    with pytest.raises(directories.DirectoryError, match="write resume='auto', or use"):
        run(make_trainer(tmp_path / "a"), resume=False)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(directories.DirectoryError, match="without a config.json"):
        run(make_trainer(tmp_path / "b"))
    with pytest.raises(ValueError, match="resume must be True, False or 'auto'"):
        run(make_trainer(tmp_path / "a"), resume="yes")
    with pytest.raises(ValueError, match="resume must be used with a directory"):
        run(make_trainer(), resume=True)


def test_wrong_arguments_are_one_sentence(tmp_path):
    loop = make_trainer().loop
    cases = [
        ({"patience": 3}, "patience must be used with validation data, got 3"),
        ({"monitor": "train/mine"}, "monitor must say whether larger is better"),
        ({"mode": "most"}, "mode must be one of auto, min, max"),
        ({"checkpoint_every": "often"}, "checkpoint_every must be steps such as 1000"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            tfreg.Trainer(loop, **options)
    unknown = make_trainer(monitor="validation/auc")
    with pytest.raises(ValueError, match="there are .*train/loss.*validation/acc"):
        run(unknown)
    listed = make_trainer(tmp_path / "a", config={"model": object()})
    with pytest.raises(ValueError, match="config must have JSON values"):
        run(listed)
    assert not (tmp_path / "a").exists()


def test_the_history_of_an_earlier_version_is_read():
    past = history.History.from_json({"best_loss": 0.5, "best_step": 3})
    assert (past.best_value, past.best_step) == (0.5, 3)


def test_what_is_thawed_by_hand_keeps_its_slots_over_a_resume(tmp_path):
    def make(directory):
        model = make_model()
        model.layers[0].trainable = False

        def thaw(event):
            if isinstance(event, hooks.EpochEnded) and event.epoch == 0:
                model.layers[0].trainable = True

        loss = tfreg.losses.sparse_softmax_cross_entropy
        step = tfreg.Step(model, loss, optimizers.adam(1e-2))
        given = {"steps_per_call": 3, "compile": "graph"}
        loop = tfreg.Loop(step, make_split(), BATCH, seed=0, **given)
        return tfreg.Trainer(loop, directory=directory, hooks=[thaw])

    alone, first = make(tmp_path / "alone"), make(tmp_path / "a")
    run(alone, 3), run(first, 2)
    second = make(tmp_path / "a")
    second.loop.step.model.layers[0].trainable = True
    run(second, 3)
    for a, b in zip(read(second), read(alone), strict=True):
        np.testing.assert_array_equal(a, b)


SCRIPT = """
import sys, numpy as np, tfreg
x = np.random.default_rng(0).normal(size=(3200, 6)).astype(np.float32)
split = tfreg.data.Split(x, np.int32(x[:, 0] > 0))
model = tfreg.models.MLP([8, 2], seed=0)
step = tfreg.Step(model, tfreg.losses.sparse_softmax_cross_entropy,
                  tfreg.optimizers.adam(1e-3), after=[tfreg.optimizers.ema(0.9)])
loop = tfreg.Loop(step, split, 8, seed=0, steps_per_call=20)
trainer = tfreg.Trainer(loop, split, sys.argv[1], checkpoint_every="100")
trainer.run(int(sys.argv[2]))
np.savez(sys.argv[3], *[v.numpy() for v in model.variables])
"""


def start(tmp_path, *args):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environ = os.environ | {"PYTHONPATH": str(pathlib.Path(tfreg.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, script, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


def wait_for_steps(directory, step):
    import time

    for _ in range(1000):
        saved = manifests.list_newest_first(directory / "checkpoints")
        if saved and int(saved[0].name[-10:]) >= step:
            return
        time.sleep(0.05)
    raise AssertionError("no checkpoint")


@pytest.mark.slow
def test_a_script_killed_and_interrupted_ends_as_the_script_left_alone(tmp_path):
    alone = start(tmp_path, tmp_path / "alone", 4, tmp_path / "alone.npz")
    assert alone.wait() == 0, alone.stderr.read()
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    for number, step, status in zip(
        numbers, (100, 300, 700), (-9, 143, 130), strict=True
    ):
        job = start(tmp_path, tmp_path / "a", 4, tmp_path / "a.npz")
        wait_for_steps(tmp_path / "a", step)
        job.send_signal(number)
        _, errors = job.communicate()
        assert job.returncode == status, errors
        if status > 0:
            assert f"interrupted by {signal.Signals(number).name}: saved in" in errors
            assert "Traceback" not in errors
    last = start(tmp_path, tmp_path / "a", 4, tmp_path / "a.npz")
    assert last.wait() == 0, last.stderr.read()
    with np.load(tmp_path / "a.npz") as got, np.load(tmp_path / "alone.npz") as want:
        for name in want.files:
            np.testing.assert_array_equal(got[name], want[name])


def test_a_run_on_replicas_resumes_to_the_bit(tmp_path, two_replicas):
    def make(directory):
        with two_replicas.scope():
            return make_trainer(directory, steps=2)

    alone = make(tmp_path / "alone")
    run(alone, 2)
    first = make(tmp_path / "parts")
    with pytest.raises(signals.Interrupted):
        run(first, 2, is_interrupted=stop_after(3))
    last = make(tmp_path / "parts")
    run(last, 2)
    for a, b in zip(read(last), read(alone), strict=True):
        np.testing.assert_array_equal(a, b)
