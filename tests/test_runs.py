"""A run writes a complete directory with its results, and repeats bit for bit."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfreg import data, runs
from tfreg.runs import config, directories, signals
from tfreg.training import manifests, recovery

VOLATILE = ("wall_seconds", "steps_per_second")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Returns an .npz of 150 and 50 of mnist5k's images, with 7 x 7 pixels each."""
    given = data.load("mnist5k")
    arrays: dict[str, Any] = {
        "x_train": given.train.x[:150, ::4, ::4],
        "y_train": given.train.y[:150],
        "x_test": given.test.x[:50, ::4, ::4],
        "y_test": given.test.y[:50],
    }
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, **arrays)
    return path


def make_settings(digits, logdir, **fields):
    # A batch of 27 fits five times: a smaller last one would be compiled once more.
    usual: dict[str, Any] = {"hidden": (8,), "epochs": 2, "batch_size": 27}
    usual |= {"dataset": "npz", "data_dir": str(digits), "strategy": "one"}
    usual |= {"logdir": str(logdir), "run_name": "a"}
    return config.Config(**usual | fields)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Returns settings and directory of a finished run with l2 on kernels."""
    settings = make_settings(
        digits, tmp_path_factory.mktemp("runs"), reg="l2", scale=1e-2
    )
    runs.train(settings)
    return settings, directories.get_path(settings)


def read_result(path, *without):
    result = json.loads((path / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in without}


def read_state(path):
    folder = manifests.list_newest_first(path / "checkpoints")[0]
    reader = tf.train.load_checkpoint(str(folder / "state"))
    names = sorted(reader.get_variable_to_shape_map())
    return {name: reader.get_tensor(name) for name in names}


def get_weights(path):
    """Returns kernels and biases of the two layers, in float64."""
    found = {}
    for name, value in read_state(path).items():
        if name.startswith("model/") and name.endswith("VARIABLE_VALUE"):
            found[value.ndim, value.shape[-1]] = value.astype(np.float64)
    return found[2, 8], found[1, 8], found[2, 10], found[1, 10]


def read_tree(path):
    return {p: p.is_file() and p.read_bytes() for p in sorted(path.rglob("*"))}


def test_a_run_leaves_config_events_checkpoint_and_result(trained):
    _, path = trained
    names = {
        "/".join(p.relative_to(path).parts).partition("tfevents")[0]
        for p in path.rglob("*")
        if p.is_file()
    }
    assert names == {
        "config.json",
        "data.json",
        "result.json",
        "status.json",
        "events.out.",
        "train/events.out.",
        "validation/events.out.",
        "test/events.out.",
    } | {
        f"checkpoints/step-{step:010d}/{name}"
        for step in (0, 10)
        for name in ("manifest.json", "state.index", "state.data-00000-of-00001")
    }


def test_the_result_says_how_far_how_fast_how_good_and_on_what(trained):
    _, path = trained
    result = read_result(path)
    assert set(result) == {
        "steps",
        "steps_per_second",
        "wall_seconds",
        "train",
        "validation",
        "test",
        "parameters",
        "versions",
        "data",
        "device",
        "replicas",
        "compile",
        "precision",
        "deterministic",
        "report",
    }
    assert result["compile"] == {"mode": "xla", "reasons": []}
    # 150 pictures, 15 of them for validation, are 5 steps of 27; 49 pixels each.
    assert result["steps"] == 10
    assert result["parameters"] == 49 * 8 + 8 + 8 * 10 + 10
    assert result["replicas"] == 1
    assert result["versions"]["tensorflow"] == tf.__version__
    assert result["steps_per_second"] > 0 and result["wall_seconds"] > 0
    assert set(result["train"]) == {
        "loss",
        "accuracy",
        "regularization",
        "total",
        "terms",
    }
    for name in ("validation", "test"):
        assert set(result[name]) == {"loss", "accuracy"}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_result_is_that_of_numpy_on_the_saved_weights(trained, digits, part):
    _, path = trained
    split = getattr(data.load("npz", digits), part)
    kernel_0, bias_0, kernel_1, bias_1 = get_weights(path)
    x = split.x.reshape(len(split), -1) / 255.0
    logits = np.maximum(x @ kernel_0 + bias_0, 0) @ kernel_1 + bias_1
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -logits[np.arange(len(split)), split.y].mean()
    result = read_result(path)[part]
    assert result["loss"] == pytest.approx(loss, rel=1e-5)  # The run is in float32.
    accuracy = (logits.argmax(1) == split.y).mean()
    assert result["accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_the_result_has_every_penalty_and_they_add_up(trained):
    _, path = trained
    train = read_result(path)["train"]
    kernel_0, _, kernel_1, _ = get_weights(path)
    expected = [1e-2 * (kernel**2).sum() / 2 for kernel in (kernel_0, kernel_1)]
    names = [f"dense_{i}/kernel/Regularizer/l2_regularizer" for i in (0, 1)]
    assert list(train["terms"]) == names
    assert list(train["terms"].values()) == pytest.approx(expected, rel=1e-5)
    assert train["regularization"] == pytest.approx(sum(expected), rel=1e-5)
    total = train["loss"] + train["regularization"]
    assert train["total"] == pytest.approx(total, rel=1e-6)


def test_a_run_repeats_to_the_bit_from_its_config(trained):
    settings, path = trained
    read = directories.read_config(path / "config.json")
    assert read == settings
    runs.train(config.from_json(read.to_json().replace('"a"', '"again"')))
    again = path.parent / "again"
    assert read_result(again, *VOLATILE) == read_result(path, *VOLATILE)
    old, new = read_state(path), read_state(again)
    assert old.keys() == new.keys()
    for name, value in old.items():
        np.testing.assert_array_equal(value, new[name], strict=True)


def test_another_seed_gives_other_numbers(trained, digits, tmp_path):
    _, path = trained
    result = runs.train(make_settings(digits, tmp_path, reg="l2", scale=1e-2, seed=1))
    assert result["test"]["loss"] != read_result(path)["test"]["loss"]


def test_a_saved_run_is_evaluated_to_the_bit(trained):
    _, path = trained
    assert runs.evaluate(path) == read_result(path)["test"]


def test_the_directory_is_named_after_what_is_run(digits):
    name = config.Config(reg="l2", scale=1e-4).get_run_name()
    assert name == "mnist5k-mlp128-l2_0.0001_kernel-seed0"
    name = config.Config(reg="l1(1e-5)@activity:dense_0", epochs=3).get_run_name()
    assert name == "mnist5k-mlp128-l1_1e-05_activity_dense_0-epochs=3-seed0"


def test_a_second_run_is_refused_and_the_first_stays_as_it_was(trained):
    settings, path = trained
    before = read_tree(path)
    with pytest.raises(
        directories.DirectoryError, match="must be new, got .*--overwrite"
    ):
        runs.train(settings)
    assert read_tree(path) == before


def test_a_run_that_is_overwritten_is_gone(digits, tmp_path):
    path = tmp_path / "a"
    (path / "train").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "train" / "events.out.tfevents.1").write_text("old")
    runs.train(make_settings(digits, tmp_path), overwrite=True)
    assert not (path / "train" / "events.out.tfevents.1").exists()
    assert (path / "config.json").read_text() != "{}"
    assert (path / "result.json").exists()


def test_what_is_no_run_is_not_overwritten(digits, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("four years")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").write_text("a file")
    before = read_tree(tmp_path)
    for name, reason in (
        ("a", "without a config.json"),
        ("b", "must not be a file or a link"),
        ("c", "must not be a file or a link"),
    ):
        settings = make_settings(digits, tmp_path, run_name=name)
        with pytest.raises(directories.DirectoryError, match=reason):
            runs.train(settings, overwrite=True)
    assert read_tree(tmp_path) == before


def test_a_claim_changes_nothing_before_it_is_prepared(tmp_path):
    path = tmp_path / "logs" / "a"
    with directories.claim(path) as first, directories.claim(path) as second:
        assert not path.parent.exists()
        first.prepare()
        assert path.is_dir()
        with pytest.raises(directories.BusyError, match="another one trains"):
            second.prepare()
        (path / "config.json").write_text("{}")
    refused = pytest.raises(directories.DirectoryError, match="must be new, got")
    with refused as caught, directories.claim(path):
        pass
    assert caught.tb is not None  # Its frames are alive, and hold no lock.
    with directories.claim(path, resume=True) as claim:
        claim.prepare()
        assert (path / "config.json").exists()
    with directories.claim(path, overwrite=True) as claim:
        assert (path / "config.json").exists()
        claim.prepare()
        assert not list(path.iterdir())


def test_config_json_is_read_once_to_resume(digits, tmp_path, monkeypatch):
    settings, paths = make_settings(digits, tmp_path, epochs=1), []
    runs.train(settings)
    read = directories.read_config

    def note(path):
        paths.append(path)
        return read(path)

    monkeypatch.setattr(directories, "read_config", note)
    runs.train(dataclasses.replace(settings, epochs=2), resume=True)
    assert paths == [tmp_path / "a" / "config.json"]


def test_a_batch_larger_than_the_data_is_all_of_them(digits, tmp_path):
    sizes = {"all": 135, "more": 10_000}
    results = {
        name: runs.train(make_settings(digits, tmp_path, batch_size=n, run_name=name))
        for name, n in sizes.items()
    }
    assert results["more"]["steps"] == 2
    assert results["more"]["test"] == results["all"]["test"]
    assert results["more"]["train"] == results["all"]["train"]


def test_an_interrupted_run_has_saved_what_it_had(digits, tmp_path):
    asked = []

    def is_interrupted():
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(signals.Interrupted):
        runs.train(
            make_settings(digits, tmp_path, epochs=9), is_interrupted=is_interrupted
        )
    path = tmp_path / "a"
    assert not (path / "result.json").exists()
    folder = manifests.list_newest_first(path / "checkpoints")[0]
    # The first call, which compiles, is of one step.
    assert 1 <= int(folder.name.removeprefix("step-")) < 45
    assert set(runs.evaluate(path)) == {"loss", "accuracy"}


def test_a_loss_that_is_not_finite_ends_the_run(digits, tmp_path):
    settings = make_settings(digits, tmp_path, learning_rate=1e30)
    with pytest.raises(
        recovery.LossError, match=r"must be finite, got \S+ (at|after) step "
    ):
        runs.train(settings)
    assert not (tmp_path / "a" / "result.json").exists()


def test_targets_are_learnt_without_an_accuracy(tmp_path, rng):
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = (x @ rng.normal(size=(3, 2))).astype(np.float32)
    path = tmp_path / "lines.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    settings = make_settings(path, tmp_path, epochs=40, learning_rate=0.03)
    result = runs.train(settings)
    assert set(result["test"]) == {"loss", "mean_absolute_error", "r2"}
    assert result["test"]["loss"] < 0.1 * np.square(y).mean()
    assert runs.evaluate(tmp_path / "a") == result["test"]


def test_damage_to_a_run_is_one_sentence(trained, tmp_path):
    _, path = trained
    with pytest.raises(directories.DirectoryError, match="nowhere/config.json"):
        runs.evaluate(tmp_path / "nowhere")
    (tmp_path / "config.json").write_bytes((path / "config.json").read_bytes())
    with pytest.raises(manifests.CheckpointError, match="got none in"):
        runs.evaluate(tmp_path)
    folder = manifests.list_newest_first(path / "checkpoints")[0]
    damaged = tmp_path / "checkpoints" / folder.name
    shutil.copytree(folder, damaged)
    assert runs.evaluate(tmp_path) == read_result(path)["test"]
    (damaged / "state.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(manifests.CheckpointError, match="must have an intact"):
        runs.evaluate(tmp_path)
    (tmp_path / "config.json").write_text('{"reg": "l2", "sc')
    with pytest.raises(directories.DirectoryError, match="must be JSON"):
        runs.evaluate(tmp_path)


@contextlib.contextmanager
def mount_small(folder, kilobytes):
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 12, 16, 32])
def test_a_full_disk_is_one_sentence_whatever_fills_it(digits, tmp_path, kilobytes):
    settings = make_settings(digits, tmp_path / "small" / "runs", epochs=3)
    (tmp_path / "small").mkdir()
    with mount_small(tmp_path / "small", kilobytes):
        with pytest.raises(OSError, match="No space left on device") as caught:
            runs.train(settings)
        path = tmp_path / "small" / "runs" / "a"
        assert not (path / "result.json").exists()
        assert not list(path.glob(".*")) and not list(path.glob("checkpoints/.*"))
    message = str(caught.value)
    assert f"'{path}" in message and "free disk space" in message
    assert "\n" not in message and "{{" not in message


def test_a_loss_that_the_last_update_spoils_is_an_error(tmp_path):
    settings = config.Config(
        strategy="one",
        reg="l2",
        epochs=1,
        batch_size=4000,
        learning_rate=1e30,
        logdir=str(tmp_path),
    )
    # One step: only the evaluation after it sees what the update did.
    match = "finite, got nan after step 1: lower .*, or check the validation data"
    with pytest.raises(recovery.LossError, match=match):
        runs.train(settings)
