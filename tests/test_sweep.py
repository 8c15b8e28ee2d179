"""A sweep: its runs, its files, its report and its errors."""

import csv
import dataclasses
import importlib.util
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfreg import data, runs
from tfreg.cli import commands
from tfreg.runs import config, directories, signals
from tfreg.sweeps import plans, report, runner
from tfreg.training import files, manifests

SCALES = (1e-3, 1e-2, 0.1)


def make_arrays(**changes):
    """Returns four overlapping classes, so that accuracies and losses differ."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    x = (rng.normal(size=(300, 12)) + np.eye(4, 12)[y]).astype(np.float32)
    arrays = {"x_train": x[:100], "y_train": y[:100], "x_test": x[100:200]}
    arrays |= {"y_test": y[100:200], "x_validation": x[200:], "y_validation": y[200:]}
    return arrays | changes


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "made.npz"
    np.savez(path, **make_arrays())
    return config.Config(
        dataset="npz",
        data_dir=str(path),
        strategy="one",
        hidden=(8,),
        epochs=3,
        batch_size=20,
        learning_rate=0.02,
    )


def make_plan(settings, num_seeds=3):
    made = plans.make_paths(settings, ["l2"], [("kernel",)], SCALES)
    return plans.Plan(made, num_seeds)


@pytest.fixture(scope="module")
def swept(settings, tmp_path_factory):
    """Returns a finished sweep: its plan, directory, outcomes and report's text."""
    directory = tmp_path_factory.mktemp("runs") / "sweep-a"
    plan = make_plan(settings)
    outcomes = runner.train(plan, directory, num_lanes=2)
    text = report.write(plan, directory, outcomes, "sweep.py --reg=l2")
    return plan, directory, outcomes, text


def read_csv(directory):
    with open(directory / "sweep.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def take(lines, setting, column):
    return np.array([float(x[column]) for x in lines if x["setting"] == setting])


def drop_times(lines):
    return [
        {k: v for k, v in line.items() if "second" not in k and k != "data_dir"}
        for line in lines
    ]


@pytest.mark.slow
def test_a_run_of_a_sweep_is_the_run_that_its_config_trains_alone(swept, tmp_path):
    _, directory, outcomes, _ = swept
    path = directory / "l2_0.1_on_kernel-seed2"
    settings = directories.read_config(path / "config.json")
    alone = dataclasses.replace(settings, logdir=str(tmp_path))
    result = runs.train(alone)
    (values,) = (
        o.values for o in outcomes if (o.setting, o.seed) == ("l2 0.1 on kernel", 2)
    )
    for split in ("train", "validation"):
        assert values[f"{split}_loss"] == pytest.approx(result[split]["loss"], rel=1e-5)
        accuracy = values[f"{split}_accuracy"]
        assert accuracy == pytest.approx(result[split]["accuracy"], abs=0.003)
    regularization = result["train"]["regularization"]
    assert values["regularization"] == pytest.approx(regularization, rel=1e-5)


@pytest.mark.slow
def test_the_csv_has_a_line_for_each_run_with_what_its_weights_are(swept):
    plan, directory, _, _ = swept
    lines = read_csv(directory)
    told = [(line["setting"], int(line["seed"])) for line in lines]
    names = [setting.name for setting in plan.settings]
    assert told == [(name, seed) for name in names for seed in range(3)]
    last = lines[-1]
    assert (last["tfreg"], last["keras"]) == ("l2(0.1)@kernel", "kernel l2(0.05)")
    reader = tf.train.load_checkpoint(
        str(directory / "l2_0.1_on_kernel-seed2/checkpoints/step-0000000015/state")
    )
    names = [n for n in reader.get_variable_to_shape_map() if "kernel" in n]
    kernels = [reader.get_tensor(n) for n in names if "optimizer" not in n]
    weights = np.concatenate([k.ravel() for k in kernels if k.ndim == 2])
    assert weights.size == 12 * 8 + 8 * 4
    assert float(last["weight_norm"]) == pytest.approx(
        np.sqrt(np.sum(weights.astype(np.float64) ** 2)), rel=1e-6
    )
    assert float(last["share_small"]) == np.mean(np.abs(weights) < 1e-3)


@pytest.mark.slow
def test_the_report_is_what_scipy_makes_of_the_csv(swept):
    plan, directory, _, text = swept
    lines, written = read_csv(directory), (directory / "report.md").read_text()
    names = [setting.name for setting in plan.settings]
    baseline = take(lines, "none", "validation_accuracy")
    tests = [
        stats.ttest_rel(take(lines, name, "validation_accuracy"), baseline)
        for name in names[1:]
    ]
    order = np.argsort([test.pvalue for test in tests])
    corrected = np.maximum.accumulate(
        [(3 - rank) * tests[i].pvalue for rank, i in enumerate(order)]
    )
    for i, p in zip(order, np.minimum(corrected, 1), strict=True):
        test, keras = tests[i], f"| kernel l2({SCALES[i] / 2:g}) |"
        (line,) = (x for x in written.splitlines() if x.startswith(keras))
        difference = take(lines, names[i + 1], "validation_accuracy") - baseline
        interval = test.confidence_interval(0.95)
        half = (interval.high - interval.low) / 2
        assert f"| {difference.mean():+.4f} ± {half:.4f} |" in line
        assert f"| {p:.3f} |" in line or p < 1e-3 and "| < 0.001 |" in line
    assert "Holm" in text and "3 comparisons" in text


@pytest.mark.slow
def test_the_test_set_has_no_part_in_the_choice(swept, tmp_path):
    plan, directory, _, _ = swept
    spoilt = tmp_path / "spoilt.npz"
    np.savez(spoilt, **make_arrays(y_test=np.full(100, 3)))
    base = dataclasses.replace(plan.settings[0].config, data_dir=str(spoilt))
    other = tmp_path / "sweep-b"
    outcomes = runner.train(make_plan(base), other)
    report.write(make_plan(base), other, outcomes, "")
    chosen = [(path / "choice.json").read_bytes() for path in (other, directory)]
    assert chosen[0] == chosen[1]
    assert drop_times(read_csv(other)) == drop_times(read_csv(directory))
    tests = [json.loads((d / "test.json").read_text()) for d in (other, directory)]
    assert tests[0].keys() == tests[1].keys() and tests[0] != tests[1]
    assert not [name for name in read_csv(directory)[0] if "test" in name]


@pytest.mark.slow
def test_data_that_change_in_the_middle_of_a_sweep_are_refused(swept, tmp_path):
    plan, directory, _, _ = swept
    copy = tmp_path / "sweep-c"
    shutil.copytree(directory, copy)
    (copy / "none-seed1" / "result.json").unlink()
    kept = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    changed = tmp_path / "changed.npz"
    np.savez(changed, **make_arrays(y_train=np.arange(100) % 4))
    base = dataclasses.replace(plan.settings[0].config, data_dir=str(changed))
    with pytest.raises(manifests.CheckpointError, match="data that it began with"):
        runner.train(make_plan(base), copy, resume=True)
    now = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert now == kept
    runner.train(make_plan(base), copy, resume=True, allow_changed_data=True)
    hashes = json.loads((copy / "sweep.json").read_text())["data"]
    before = json.loads((directory / "sweep.json").read_text())["data"]
    assert len(set(hashes)) == 2 and hashes[:1] == before
    (other,) = json.loads((copy / "none-seed1" / "result.json").read_text())["data"]
    assert other == hashes[1]


@pytest.mark.slow
def test_the_test_set_is_read_for_those_chosen_and_the_baseline(swept):
    _, directory, _, _ = swept
    (choice,) = json.loads((directory / "choice.json").read_text())["paths"]
    tests = json.loads((directory / "test.json").read_text())
    assert set(tests) == {"none", choice["best"], choice["within"]}
    slug = choice["best"].replace(" ", "_")
    wanted = runs.evaluate(directory / f"{slug}-seed1")
    assert tests[choice["best"]][1] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.slow
def test_a_sweep_that_was_killed_keeps_its_finished_runs(swept, tmp_path):
    plan, directory, _, _ = swept
    copy = tmp_path / "sweep-c"
    shutil.copytree(directory, copy)
    removed = ("none-seed1", "l2_0.01_on_kernel-seed0")
    for name in removed:
        (copy / name / "result.json").unlink()  # Written last.
    kept = {p: p.stat().st_mtime_ns for p in copy.rglob("*-seed*/result.json")}
    outcomes = runner.train(plan, copy, resume=True)
    assert len(kept) == 10 and all(p.stat().st_mtime_ns == t for p, t in kept.items())
    assert len(outcomes) == 12
    assert drop_times(read_csv(copy)) == drop_times(read_csv(directory))
    with pytest.raises(directories.DirectoryError, match="settings of the same sweep"):
        runner.train(plans.Plan(plan.settings, 2), copy, resume=True)
    with pytest.raises(directories.DirectoryError, match="must be new.*--resume"):
        runner.train(plan, copy)


def test_whose_directory_a_sweep_may_take(tmp_path):
    path, text = tmp_path / "sweep-a", '{"of": "ä"}'

    def take(text=text, **flags):
        with directories.claim_sweep(path, text, **flags) as claim:
            claim.prepare()
            (path / "sweep.json").write_text(text, encoding="utf-8")
            (path / "none-seed0").mkdir(exist_ok=True)

    path.mkdir()
    (path / ".sweep.json.a1_b2c3d").touch()  # What a kill leaves.
    take()
    assert {p.name for p in path.iterdir()} == {"sweep.json", "none-seed0"}
    with pytest.raises(directories.DirectoryError, match="must be new.*--resume"):
        take()
    (path / ".report.png.a1_b2c3d").touch()
    take(resume=True)
    assert not list(path.glob(".*"))
    with pytest.raises(directories.DirectoryError, match="settings of the same sweep"):
        take("{}", resume=True)
    for half in (b"\xff", text.encode()[:5], b"[]"):
        (path / "sweep.json").write_bytes(half)
        with pytest.raises(directories.DirectoryError, match="sweep.json must be int"):
            take(resume=True)
    take(overwrite=True)
    busy = pytest.raises(directories.BusyError, match="must have one process")
    with directories.claim_sweep(path, text, resume=True), busy:
        take(overwrite=True)
    assert (path / "none-seed0").is_dir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(directories.DirectoryError, match="got .*, a link: choose"):
        take(overwrite=True)


def test_a_replaced_sweep_that_is_killed_half_way_can_be_replaced(
    tmp_path, monkeypatch
):
    names = ("none-seed0", "sweep.json", "zero-seed0")
    for number in range(3):
        path, left = tmp_path / f"sweep-{number}", [directories._remove] * number
        for name in names:
            (path / name).mkdir(parents=True)
        (path / "sweep.json").rmdir()
        (path / "sweep.json").touch()

        def remove_or_die(entry, left=left):
            if not left:
                raise KeyboardInterrupt  # It stands for the kill.
            left.pop()(entry)

        with monkeypatch.context() as patch:
            patch.setattr(directories, "_remove", remove_or_die)
            killed = pytest.raises(KeyboardInterrupt)
            with killed, directories.claim_sweep(path, "{}", overwrite=True) as claim:
                claim.prepare()
        with directories.claim_sweep(path, "{}", overwrite=True) as claim:
            claim.prepare()
            assert not list(path.iterdir())


@pytest.mark.slow
def test_the_test_set_is_read_with_the_weights_that_the_run_ended_with(
    settings, tmp_path
):
    base = dataclasses.replace(settings, patience=1, epochs=20, learning_rate=0.5)
    made = plans.make_paths(base, ["l2"], [("kernel",)], [0.1])
    plan, directory = plans.Plan(made, 1), tmp_path / "sweep-h"
    runner.train(plan, directory)
    alone = dataclasses.replace(base, logdir=str(tmp_path), run_name="alone", seed=0)
    result = runs.train(alone)
    assert result["best_step"] < result["steps"]
    ((test,),) = runner.evaluate_test(plan, directory, ["none"]).values()
    assert test["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)
    # An earlier checkpoint is of another model than result.json.
    checkpoint = manifests.list_newest_first(directory / "none-seed0/checkpoints")[0]
    (checkpoint / "manifest.json").write_text("{}")
    with pytest.raises(manifests.CheckpointError, match="last checkpoint intact, got"):
        runner.evaluate_test(plan, directory, ["none"])
    (directory / "none-seed0/result.json").write_text('{"steps": []}')
    with pytest.raises(directories.DirectoryError, match="must have an intact result"):
        runner.train(plan, directory, resume=True)


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_its_finished_runs(settings, tmp_path):
    plan = make_plan(settings, 1)
    directory = tmp_path / "sweep-d"

    def is_interrupted():
        return len(list(directory.glob("*/result.json"))) == 2

    with pytest.raises(signals.Interrupted):
        runner.train(plan, directory, is_interrupted=is_interrupted)
    assert len(list(directory.glob("*/result.json"))) == 2
    assert len(runner.train(plan, directory, resume=True)) == 4


@pytest.mark.slow
def test_a_full_disk_ends_all_lanes_and_keeps_finished_runs(
    settings, tmp_path, monkeypatch
):
    plan, write = make_plan(settings), files.write
    directory = tmp_path / "sweep-e"

    def fill(path, content):
        if "l2_0.01" in str(path) and pathlib.Path(path).name == "result.json":
            raise OSError(f"{str(path)!r} must be written, got No space left")
        write(path, content)

    monkeypatch.setattr(files, "write", fill)
    with pytest.raises(OSError, match="must be written, got No space left"):
        runner.train(plan, directory, num_lanes=2)
    finished = {p.parent.name for p in directory.glob("*/result.json")}
    assert 1 <= len(finished) < 9
    assert not [name for name in finished if "l2_0.01_" in name]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_told_and_the_others_go_on(settings, tmp_path):
    base = dataclasses.replace(settings, optimizer="sgd", learning_rate=0.1)
    made = plans.make_paths(base, ["l2"], [("kernel",)], [1e-3, 1e9])
    plan, directory = plans.Plan(made, 2), tmp_path / "sweep-f"
    outcomes = runner.train(plan, directory)
    assert np.isnan(outcomes[-1].values["validation_loss"])
    assert np.isfinite(outcomes[-3].values["validation_loss"])
    text = report.write(plan, directory, outcomes, "")
    assert "diverged" in text
    (choice,) = json.loads((directory / "choice.json").read_text())["paths"]
    assert choice["best"] == "l2 0.001 on kernel"


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Returns a function: arguments -> status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = commands.main(["tfreg", "sweep", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


REFUSED = [
    ("", 2, "a sweep must have settings, got neither preset nor reg"),
    ("--reg=l2 --scales=,", 2, "scales must be one or more .*, got ','"),
    ("--reg=l2 --scales=", 2, "scales must have a value, got ''"),
    ("--reg=l2 --scales=1e-2:1e-6:9", 2, r"0 < LOW < HIGH .*, got '1e-2:1e-6:9'"),
    ("--reg=l2 --scales=1e-6:1e-2:1", 2, "COUNT >= 2, or a list, got '1e-6:1e-2:1'"),
    ("--reg=l2 --scales=0,1e-2", 2, "scales must be .* floats > 0, got '0,1e-2'"),
    ("--reg=l2 --scales=1e-2,0.01", 2, "scales must be .*different.*'1e-2,0.01'"),
    ("--reg=l2 --scales=1e-2,inf", 2, "scales must be .*finite.*'1e-2,inf'"),
    ("--reg=l2 --seeds=0", 2, "seeds must be an int >= 1, got '0'"),
    ("--reg=l2 --lanes=x", 2, "lanes must be an int >= 1, got 'x'"),
    ("--reg=none", 2, "reg must name a regularizer, got none: write --reg=l2"),
    (
        "--reg=l3",
        2,
        "reg must be one of l1, l2, .* decay in a sweep, got 'l3'",
    ),
    ("--reg=l2 --reg_on=weights", 2, "reg_on must be one or more of kernel"),
    ("--preset=paper", 2, "preset must be note.*got 'paper'"),
    ("--preset=note --reg=l2", 2, "preset must be note.* got .note. with reg"),
    ("--reg=l2 --train_examples=0", 2, "train_examples must be an int >= 1, got 0"),
    ("--reg=l2 --train_examples=5000", 2, "at most the 4000 of mnist5k, got 5000"),
    ("--reg=l2 --dataset=mnist --data_dir=none", 3, "data_dir.*No such file"),
    ("--reg=l2 --name=taken", 4, "must be new or a sweep's, got 'runs/sweep-taken'"),
]


@pytest.mark.parametrize("arguments, status, sentence", REFUSED)
def test_what_cannot_be_swept_is_refused_in_a_sentence(
    call, arguments, status, sentence
):
    pathlib.Path("runs/sweep-taken/a").mkdir(parents=True)
    got = call("--strategy=one", *arguments.split())
    assert got[0] == status
    assert got[2].startswith("error: ") and got[2].count("\n") == 1
    assert re.search(sentence, got[2])
    assert [p.name for p in pathlib.Path("runs").iterdir()] == ["sweep-taken"]


@pytest.mark.slow
def test_the_command_writes_a_report_and_says_that_it_adds_the_baseline(call, settings):
    status, out, err = call(
        "--reg=l1",
        "--scales=1e-3,1e-2",
        "--seeds=2",
        "--strategy=one",
        "--hidden=8",
        "--epochs=2",
        "--dataset=npz",
        f"--data_dir={settings.data_dir}",
        "--train_examples=80",
        "--batch_size=40",
    )
    assert status == 0, err
    assert "none, the unregularized baseline, is added" in out
    directory = pathlib.Path("runs/sweep-l1_kernel-npz-80")
    wanted = {"sweep.json", "sweep.csv", "report.md", "report.png", "choice.json"}
    assert wanted <= {p.name for p in directory.iterdir()}
    assert (directory / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "l1 0.001 on kernel" in out and f"tensorboard --logdir {directory}" in out


def test_a_grid_is_even_in_the_logarithm():
    got = plans.parse_scales("1e-6:1e-2:5")
    assert got == (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    assert plans.parse_scales("1e-2, 1e-4") == (1e-4, 1e-2)
    for low, high, count in ((1e-6, 1e-2, 9), (3e-5, 0.7, 12), (1e-9, 123.0, 31)):
        truth = [float(f"{s:.3g}") for s in np.geomspace(low, high, count)]
        assert plans.parse_scales(f"{low}:{high}:{count}") == tuple(truth)


def test_keras_has_half_of_our_l2():
    settings = config.Config(reg="l1_l2(0.1,0.2)@kernel;l2(0.4)@bias;l1(0.3)@activity")
    wanted = "kernel l1_l2(0.1, 0.1) + bias l2(0.2) + activity l1(0.3)"
    assert plans.describe_keras(settings) == wanted


def test_the_note_has_thirteen_rows_of_twelve_settings():
    made = plans.make_note(config.Config(dataset="mnist"))
    assert len(made) == 12 and sum(len(s.reported) for s in made) == 13
    by_name = {s.name: s for s in made}
    assert by_name["kernel l2(0.001)"].config.reg == "l2(0.002)@kernel:dense_0"
    assert by_name["linear, none"].baseline == "none"
    other = plans.make_note(config.Config(dataset="mnist", train_examples=1000))
    assert not any(s.reported for s in other)  # The note trained on all of them.
    assert by_name["linear, activity l2(0.0001)"].baseline == "linear, none"


def test_the_seed_draws_the_training_examples():
    rows = np.arange(50, dtype=np.float32)
    split = data.Split(rows[:, None], np.zeros(50, np.int32))
    dataset = data.Dataset("made", split, split, split, 1)
    settings = [config.Config(train_examples=20, seed=seed) for seed in (3, 3, 4)]
    drawn = [runs.take_examples(s, dataset).train.x[:, 0].tolist() for s in settings]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(sorted(set(rows)) == rows and len(rows) == 20 for rows in drawn)
    assert runs.take_examples(settings[0], dataset).validation is split
    assert runs.take_examples(config.Config(), dataset) is dataset


def test_a_missing_package_is_told_before_anything_is_trained(call, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name != "scipy" and find(name) or None
    )
    status, _, err = call("--reg=l2")
    assert status == 2 and not pathlib.Path("runs").exists()
    assert "package scipy" in err and "python -m pip install 'tfreg[sweep]'" in err
