"""A run that is interrupted and resumed is the run that was left alone, to the bit."""

import itertools
import json
import pathlib

import forks
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator

from tfreg import optimizers, runs
from tfreg.runs import config, directories, signals, trainer
from tfreg.training import loop, manifests, recovery

VOLATILE = ("wall_seconds", "steps_per_second")


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """Returns an .npz of three classes of points in the plane, 60 and 30 of them."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = (rng.normal(size=(90, 2)) + 2 * np.eye(3)[y][:, :2]).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "points.npz"
    parts = {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]}
    np.savez(path, **parts)
    return path


def make_settings(points, logdir, run_name, **fields):
    usual = {"hidden": (4,), "epochs": 3, "batch_size": 6, "strategy": "one"}
    usual |= {"dataset": "npz", "data_dir": str(points), "logdir": str(logdir)}
    usual |= {"compile": "graph"}  # Compiling takes most of the time.
    return config.Config(
        run_name=run_name, **usual | {"checkpoint_every": "2"} | fields
    )


def interrupt_after(calls):
    count = itertools.count()
    return lambda: next(count) >= calls


def train_in_parts(settings, *parts):
    """Trains until each of the parts is over, and then to the end."""
    for calls in parts:
        with pytest.raises(signals.Interrupted):
            runs.train(settings, resume=True, is_interrupted=interrupt_after(calls))
    return runs.train(settings, resume=True)


def read_state(directory):
    path = manifests.list_newest_first(pathlib.Path(directory, "checkpoints"))[0]
    reader = tf.train.load_checkpoint(str(path / "state"))
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("_VALUE")]
    return path.name, {n: np.asarray(reader.get_tensor(n)).tobytes() for n in names}


def drop_times(result):
    return {k: v for k, v in result.items() if k not in VOLATILE}


def describe(directory, result):
    """Returns what two runs are compared by: result, state and curves."""
    return drop_times(result), read_state(directory), read_points(directory / "train")


def is_equal(points, logdir, parts=(2, 3), **fields):
    """Trains alone and in parts; tells whether both are the same."""
    alone = runs.train(make_settings(points, logdir, "alone", **fields))
    parted = train_in_parts(make_settings(points, logdir, "parts", **fields), *parts)
    want = describe(logdir / "alone", alone)
    return describe(logdir / "parts", parted) == want


@pytest.fixture(scope="module")
def alone(points, tmp_path_factory):
    """Returns a function: fields -> how a run left alone is described, trained once."""
    folder, known = tmp_path_factory.mktemp("alone"), {}

    def train(**fields):
        key = str(sorted(fields.items()))
        if key not in known:
            name = f"run{len(known)}"
            result = runs.train(make_settings(points, folder, name, **fields))
            known[key] = describe(folder / name, result)
        return known[key]

    return train


def test_a_run_whose_data_have_changed_is_refused_or_records_both(points, tmp_path):
    arrays, path = dict(np.load(points)), tmp_path / "points.npz"
    np.savez(path, **arrays)
    settings = make_settings(path, tmp_path, "a")
    with pytest.raises(signals.Interrupted):
        runs.train(settings, is_interrupted=interrupt_after(3))
    arrays["y_train"] = arrays["y_train"][::-1]
    np.savez(path, **arrays)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(manifests.CheckpointError, match="data that it began with"):
        runs.train(settings, resume=True)
    assert all(path.read_bytes() == content for path, content in kept.items())
    told, args = [], {"resume": True, "allow_changed_data": True}
    with pytest.raises(signals.Interrupted):
        interrupted = {"is_interrupted": interrupt_after(2), "log": told.append}
        runs.train(settings, **args, **interrupted)
    assert any("the data have changed" in message for message in told)
    result = runs.train(settings, resume=True)  # With those that it has gone on with.
    assert len(set(result["data"])) == 2


CASES = [
    {"optimizer": "sgd", "reg": "l1", "scale": 1e-2},
    {"optimizer": "momentum", "reg": "l2", "schedule": "cosine"},
    {
        "reg": "l2(1e-2)@kernel;l1(1e-2)@activity",
        "dropout": 0.4,
        "schedule": "piecewise",
    },
    {"dropout": 0.4, "accumulate": 2, "clip_norm": 0.1, "precision": "float16"},
    {"patience": 2, "epochs": 40, "learning_rate": 0.3},
]


@pytest.mark.parametrize("case", CASES, ids=[str(sorted(case)) for case in CASES])
def test_a_run_in_parts_is_the_run_left_alone(points, alone, tmp_path, case):
    # An epoch has five calls: in its middle, and at the end of one.
    if "precision" in case:  # Compiling takes most of the time.
        case = case | {"compile": "xla"}
    result = train_in_parts(make_settings(points, tmp_path, "a", **case), 2, 6)
    assert describe(tmp_path / "a", result) == alone(**case)


def test_a_run_interrupted_at_an_epochs_end_is_the_run_left_alone(
    points, alone, tmp_path
):
    result = train_in_parts(make_settings(points, tmp_path, "a", **CASES[2]), 6)
    assert describe(tmp_path / "a", result) == alone(**CASES[2])


def compare_on_two_replicas(points, folder):
    """Returns 0 where the run in parts is the run left alone."""
    fields = {"strategy": "mirrored", "logical_devices": 2, "dropout": 0.4, "reg": "l2"}
    return int(not is_equal(points, folder, **fields))


@pytest.mark.slow
def test_a_run_in_parts_on_two_replicas_is_the_run_left_alone(points, tmp_path):
    job = forks.Job(tmp_path, compare_on_two_replicas, points, tmp_path)
    assert job.wait() == 0, job.read()


@pytest.mark.parametrize("left_out", ["slots", "step", "sums", "order"])
def test_the_comparison_notices_what_is_left_out(
    points, alone, tmp_path, monkeypatch, left_out
):
    restore = trainer.Trainer.restore

    def forget(self, directory):
        metadata = restore(self, directory)
        optimizer = self.loop.step.optimizer
        if left_out == "slots":
            for variable in optimizer.variables:
                if variable is not optimizer.step:
                    variable.assign(tf.zeros_like(variable))
        elif left_out == "step":
            optimizer.step.assign_add(6)  # The number of the step seeds dropout.
        elif left_out == "sums":
            self.history.sums = {}
        else:
            self.loop.restart(self.loop.source, 1)
        return metadata

    fields = {"dropout": 0.4, "patience": 2, "epochs": 9, "learning_rate": 0.1}
    want = alone(**fields)
    monkeypatch.setattr(trainer.Trainer, "restore", forget)
    result = train_in_parts(make_settings(points, tmp_path, "a", **fields), 2)
    assert describe(tmp_path / "a", result) != want


def test_a_damaged_checkpoint_is_named_and_costs_no_bit(points, alone, tmp_path):
    settings = make_settings(points, tmp_path, "a")
    with pytest.raises(signals.Interrupted):
        runs.train(settings, is_interrupted=interrupt_after(4))
    newest = manifests.list_newest_first(tmp_path / "a" / "checkpoints")[0]
    (newest / "state.index").write_bytes(b"")
    logged = []
    result = runs.train(settings, resume=True, log=logged.append)
    assert describe(tmp_path / "a", result) == alone()
    assert len(logged) == 1 and newest.name in logged[0]


def test_no_whole_checkpoint_is_no_silent_new_start(points, tmp_path):
    settings = make_settings(points, tmp_path, "a")
    runs.train(settings)
    (tmp_path / "a" / "result.json").unlink()
    for path in manifests.list_newest_first(tmp_path / "a" / "checkpoints"):
        (path / "manifest.json").write_bytes(b"")
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    with pytest.raises(manifests.CheckpointError, match="checkpoint"):
        runs.train(settings, resume=True)
    assert before == {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}


def test_a_finished_run_goes_on_only_with_more_epochs(points, alone, tmp_path):
    logged = []
    runs.train(make_settings(points, tmp_path, "a", epochs=2))
    again = runs.train(
        make_settings(points, tmp_path, "a", epochs=2), resume=True, log=logged.append
    )
    assert again["steps"] == 18 and "has finished: raise epochs" in logged[0]
    (tmp_path / "a" / "result.json").write_text("{")
    settings = make_settings(points, tmp_path, "a", epochs=2)
    assert drop_times(runs.train(settings, resume=True)) == drop_times(again)
    longer = make_settings(points, tmp_path, "a", epochs=4)
    for _ in range(2):  # A kill, too, must not leave the result of two epochs.
        with pytest.raises(signals.Interrupted):
            runs.train(longer, resume=True, is_interrupted=interrupt_after(2))
    more = runs.train(longer, resume=True)
    assert describe(tmp_path / "a", more)[:2] == alone(epochs=4)[:2]


def test_another_config_is_refused_with_the_difference(points, tmp_path):
    runs.train(make_settings(points, tmp_path, "a"))
    other = make_settings(points, tmp_path, "a", reg="l2", seed=3)
    with pytest.raises(directories.DirectoryError, match="reg 'none'.*seed 0"):
        runs.train(other, resume=True)


def test_another_device_is_a_warning(points, tmp_path, monkeypatch):
    settings = make_settings(points, tmp_path, "a")
    with pytest.raises(signals.Interrupted):
        runs.train(settings, is_interrupted=interrupt_after(4))
    monkeypatch.setattr(runs.results, "describe_device", lambda: "CPU, 96 threads")
    logged = []
    runs.train(settings, resume=True, log=logged.append)
    assert len(logged) == 1 and "bits may differ: device was CPU" in logged[0]


def test_a_directory_in_use_is_left_alone(points, tmp_path):
    settings = make_settings(points, tmp_path, "a")
    seen = []

    def look():
        if not seen:
            before = {p: p.stat() for p in tmp_path.rglob("*")}
            for options in ({}, {"overwrite": True}, {"resume": True}):
                with pytest.raises(directories.BusyError, match="got .*a"):
                    runs.train(settings, **options)
            assert before == {p: p.stat() for p in tmp_path.rglob("*")}
            seen.append(True)
        return False

    runs.train(settings, is_interrupted=look)
    assert seen


def test_the_best_weights_are_what_patience_returns(points, tmp_path):
    settings = make_settings(
        points, tmp_path, "a", patience=2, epochs=60, learning_rate=0.3
    )
    result = runs.train(settings)
    assert result["steps"] - result["best_step"] == 2 * 9
    tags = read_points(tmp_path / "a" / "validation")["loss/data"]
    assert result["validation"]["loss"] == pytest.approx(min(tags.values()), rel=1e-6)
    assert tags[result["best_step"]] == min(tags.values())
    assert runs.evaluate(tmp_path / "a") == result["test"]


def test_patience_may_end_a_run_in_the_epoch_in_which_it_was_resumed(points, tmp_path):
    settings = make_settings(
        points, tmp_path, "a", patience=1, optimizer="sgd", learning_rate=30.0
    )
    # An epoch asks five times: this one is stopped before its second epoch.
    result = train_in_parts(settings, 5)
    assert (result["steps"], result["best_step"]) == (18, 9)
    assert result["steps_per_second"] > 0  # Of the epoch that compiled: the only one.


def read_points(directory):
    """Returns tag -> {step: value}, as TensorBoard's Python loader has them."""
    events = plugin_event_accumulator.EventAccumulator(str(directory), {"tensors": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["tensors"]:
        values = events.Tensors(tag)
        if "loss" in tag or "accuracy" in tag:
            steps = [event.step for event in values]
            assert len(set(steps)) == len(steps), (tag, steps)
            found[tag] = {
                e.step: float(tf.make_ndarray(e.tensor_proto)) for e in values
            }
    return found


def test_each_point_stands_once_in_tensorboard_after_a_loss_of_checkpoints(
    points, tmp_path
):
    runs.train(make_settings(points, tmp_path, "alone", epochs=4))
    settings = make_settings(points, tmp_path, "a", epochs=4, keep_checkpoints=9)
    with pytest.raises(signals.Interrupted):
        runs.train(settings, is_interrupted=interrupt_after(14))
    # Back by more than an epoch, behind points that are written.
    for path in manifests.list_newest_first(tmp_path / "a" / "checkpoints")[:7]:
        (path / "manifest.json").write_bytes(b"")
    runs.train(settings, resume=True)
    for name in ("train", "validation"):
        got = read_points(tmp_path / "a" / name)
        assert got == read_points(tmp_path / "alone" / name)
        assert list(got["loss/data"]) == [9, 18, 27, 36]


def test_a_step_that_is_not_finite_is_not_applied(points, tmp_path):
    settings = make_settings(
        points, tmp_path, "a", optimizer="sgd", learning_rate=1e12, reg="l2"
    )
    with pytest.raises(recovery.LossError) as caught:
        runs.train(settings)
    text = str(caught.value)
    step = int(text.partition("at step ")[2].partition(",")[0])
    assert "finite" in text and "checkpoint" in text
    newest = manifests.list_newest_first(tmp_path / "a" / "checkpoints")[0]
    assert str(newest) in text and int(newest.name[-10:]) < step
    reader = tf.train.load_checkpoint(str(newest / "state"))
    for name in reader.get_variable_to_shape_map():
        if name.startswith("model/") and name.endswith("_VALUE"):
            assert np.isfinite(reader.get_tensor(name)).all()


def test_the_loop_stops_before_the_step_whose_data_are_bad(rng):
    from tfreg import data, losses, models
    from tfreg.training import step

    x = rng.normal(size=(40, 3)).astype(np.float32)
    order = data.permute(40, 0, 0)
    x[order[4 * 6 + 1]] = np.nan  # The seventh batch of four.
    made = loop.Loop(
        step.Step(
            models.MLP([2]), losses.sparse_softmax_cross_entropy, optimizers.sgd(0.1)
        ),
        data.Split(x, np.zeros(40, np.int32)),
        batch_size=4,
    )
    with pytest.raises(recovery.LossError, match="loss/data .*nan at step 7"):
        made.train(0)
    assert int(made.step.optimizer.step.numpy()) == 6
    assert all(np.isfinite(v.numpy()).all() for v in made.step.model.variables)


def test_result_json_is_what_was_returned(points, tmp_path):
    settings = make_settings(points, tmp_path, "a")
    result = train_in_parts(settings, 2)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == result
