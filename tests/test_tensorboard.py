"""TensorBoard reads what a run writes: from the event files, and over HTTP."""

import json
import math
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from tfreg import runs
from tfreg.runs import config, events

PARTS = ("", "/train", "/validation")
STEPS = [4, 8, 12]
REG = "l2(1e-2)@kernel;l1(1e-3)@activity:dense_0"
SHARED = {
    "loss/data",
    "loss/regularization",
    "loss/total",
    "accuracy",
    "penalty/dense_0/kernel/l2",
    "penalty/dense_1/kernel/l2",
    "penalty/dense_0/activity/l1",
}


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Returns a folder of two finished runs, penalized and not, of three epochs."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)).astype(np.float32), rng.integers(0, 3, 80)
    np.savez(folder / "made.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for name, reg in (("penalized", REG), ("plain", "none")):
        runs.train(
            config.Config(
                reg=reg,
                dataset="npz",
                data_dir=str(folder / "made.npz"),
                strategy="one",
                hidden=(4,),
                batch_size=18,
                epochs=3,
                logdir=str(folder),
                run_name=name,
            )
        )
    return folder


def load(folder):
    loaded = event_accumulator.EventAccumulator(str(folder))
    return loaded.Reload()


def read_scalars(folder):
    """Returns tag -> {step: value}."""
    loaded, found = load(folder), {}
    for tag in loaded.Tags()["tensors"]:
        if loaded.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found[tag] = {
                event.step: float(tensor_util.make_ndarray(event.tensor_proto))
                for event in loaded.Tensors(tag)
            }
    return found


def read_session(folder):
    """Returns the hyperparameters and the status that the session ended with."""
    loaded, prefix = load(folder), "_hparams_/session"
    parts = [
        plugin_data_pb2.HParamsPluginData.FromString(
            loaded.SummaryMetadata(f"{prefix}_{name}_info").plugin_data.content
        )
        for name in ("start", "end")
    ]
    hparams = parts[0].session_start_info.hparams
    values = {name: getattr(v, v.WhichOneof("kind")) for name, v in hparams.items()}
    return values, parts[1].session_end_info.status


def test_train_and_validation_have_the_same_tags(logdir):
    train = read_scalars(logdir / "penalized" / "train")
    validation = read_scalars(logdir / "penalized" / "validation")
    assert set(validation) == SHARED
    assert set(train) == SHARED | {"learning_rate", "gradient_norm"}
    assert all(list(points) == STEPS for points in (train | validation).values())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_terms_add_up_at_every_step(logdir, part):
    scalars = read_scalars(logdir / "penalized" / part)
    for step in STEPS:
        at = {tag: points[step] for tag, points in scalars.items()}
        terms = [at[tag] for tag in at if tag.startswith("penalty/")]
        assert len(terms) == 3 and min(terms) > 0
        # Each is rounded to float32 on its way.
        assert sum(terms) == pytest.approx(at["loss/regularization"], rel=1e-6)
        total = at["loss/data"] + at["loss/regularization"]
        assert at["loss/total"] == pytest.approx(total, rel=1e-6)


def test_a_run_without_penalties_has_a_regularization_of_zero(logdir):
    scalars = read_scalars(logdir / "plain" / "train")
    assert set(scalars["loss/regularization"].values()) == {0.0}
    assert scalars["loss/total"] == scalars["loss/data"]
    assert not [tag for tag in scalars if tag.startswith("penalty/")]


def test_the_last_validation_point_is_the_result(logdir):
    scalars = read_scalars(logdir / "penalized" / "validation")
    result = json.loads((logdir / "penalized" / "result.json").read_text())
    for name, tag in (("loss", "loss/data"), ("accuracy", "accuracy")):
        written = np.float32(result["validation"][name])
        assert np.float32(scalars[tag][STEPS[-1]]) == written


def test_every_variable_has_a_histogram_an_epoch(logdir):
    loaded, found = load(logdir / "penalized" / "train"), {}
    for tag in loaded.Tags()["tensors"]:
        if loaded.SummaryMetadata(tag).plugin_data.plugin_name == "histograms":
            found[tag] = loaded.Tensors(tag)
    names = [f"dense_{i}/{kind}" for i in (0, 1) for kind in ("bias", "kernel")]
    assert sorted(found) == names
    for points in found.values():
        assert [event.step for event in points] == STEPS
    # A histogram's rows are left, right, count; the kernel has 5 x 4 weights.
    last = tensor_util.make_ndarray(found["dense_0/kernel"][-1].tensor_proto)
    assert last[:, 2].sum() == 20


def test_sessions_have_the_same_hyperparameters_and_end_with_success(logdir):
    penalized, status = read_session(logdir / "penalized")
    plain, plain_status = read_session(logdir / "plain")
    assert set(penalized) == set(plain)
    assert (penalized["reg"], plain["reg"]) == (REG, "none")
    assert penalized["hidden"] == "4" and penalized["batch_size"] == 18
    assert (penalized["scale"], plain["scale"]) == (1e-2, 0.0)
    assert status == plain_status == 1  # api_pb2.STATUS_SUCCESS


def test_a_session_that_was_stopped_ends_with_failure(tmp_path):
    events.Events(tmp_path, {"reg": "l2"}).close(finished=False)
    assert read_session(tmp_path) == ({"reg": "l2"}, 2)  # api_pb2.STATUS_FAILURE


def test_points_are_in_the_file_before_the_run_ends(tmp_path):
    writer = events.Events(tmp_path, {"reg": "l2"})
    writer.write_scalars("train", 3, {"loss/data": 0.5})
    assert read_scalars(tmp_path / "train") == {"loss/data": {3: 0.5}}
    writer.close(finished=True)


def test_event_files_that_cannot_be_made_are_told_once_and_training_goes_on(tmp_path):
    (tmp_path / "train").write_text("in the way")
    logged = []
    writer = events.Events(tmp_path, {"reg": "l2"}, log=logged.append)
    writer.write_scalars("train", 1, {"loss/data": 1.0})
    writer.sync()
    writer.close(finished=True)
    (text,) = logged
    assert text.startswith(f"no more events for TensorBoard: '{tmp_path}")
    assert "must be written, got" in text and "\n" not in text


def get_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path, question=None):
    """Returns the server's JSON to a GET, or to a POST where there is a question."""
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/data/{path}",
        body,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_for(look, seconds=60):
    """Returns the first true thing that `look` finds: the server loads as it goes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = look()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing after {seconds} s")


@pytest.fixture(scope="module")
def port(logdir):
    """Starts `tensorboard --logdir runs/` and returns its port."""
    port = get_free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_tensorboard_serves_the_scalars_of_both_runs(port):
    names = [f"{run}{part}" for run in ("penalized", "plain") for part in PARTS]
    wait_for(lambda: set(ask(port, "runs")) >= set(names))
    train = SHARED | {"learning_rate", "gradient_norm"}
    tags = wait_for(
        lambda: {
            run: set(found)
            for run, found in ask(port, "plugin/scalars/tags").items()
            if set(found) >= train
        }
    )
    assert tags["penalized/train"] == train


@pytest.mark.slow
def test_tensorboard_serves_the_histograms(port):
    def look():
        found = ask(port, "plugin/histograms/tags")
        return len(found.get("penalized/train", ())) == 4 and found

    assert set(wait_for(look)) == {"penalized/train", "plain/train"}


@pytest.mark.slow
def test_tensorboard_compares_both_runs_by_hyperparameters_and_metrics(port):
    metric = {"group": "validation", "tag": "accuracy"}
    question = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_SUCCESS"],
        "colParams": [{"metric": metric}, {"hparam": "reg"}],
        "startIndex": 0,
        "sliceSize": 10,
    }

    def look():
        answer = ask(port, "plugin/hparams/session_groups", question)
        groups = answer.get("sessionGroups", [])
        values = {
            group["name"]: {
                m["name"]["tag"]: m["value"]
                for m in group.get("metricValues", ())
                if m["name"]["group"] == "validation"
            }
            for group in groups
        }
        ready = [name for name in values if "accuracy" in values[name]]
        return len(ready) == 2 and (groups, values)

    groups, values = wait_for(look)
    hparams = {group["name"]: group["hparams"] for group in groups}
    assert {name: h["reg"] for name, h in hparams.items()} == {
        "penalized": REG,
        "plain": "none",
    }
    assert set(hparams["penalized"]) == set(hparams["plain"])
    assert all(math.isfinite(v["loss/data"]) for v in values.values())
