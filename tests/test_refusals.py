"""What a run refuses before it begins: pipes, devices, names twice, too much memory."""

import contextlib
import dataclasses
import os
import pathlib
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, losses, optimizers, runs
from tfreg.cli import commands, predict, process
from tfreg.data import frames
from tfreg.runs import config, directories, memory, records, results, weights


def read_directly(path):
    return data.load("npz", path)


READERS = [
    (directories.read_config, "config.json", directories.DirectoryError),
    (directories.read_json, "data.json", directories.DirectoryError),
    (read_directly, "points.npz", data.DataError),
    (frames.read_all, "houses.csv", data.DataError),
    (predict.read_inputs, "x.npy", data.DataError),
    (weights.read_weights, "w.npz", weights.WeightsError),
]


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(("read", "name", "error"), READERS)
def test_a_pipe_or_device_is_refused(tmp_path, read, name, error, kind):
    path = tmp_path / name
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(error, match=f"{name}' must be a regular file, got a {kind}"):
        read(path)


def test_a_pipe_among_images_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    os.mkfifo(tmp_path / "cat" / "a.png")
    with pytest.raises(data.DataError, match=r"a\.png' must be a regular file"):
        data.load_folder(tmp_path)


def test_a_name_twice_in_a_config_is_refused(tmp_path):
    text = config.Config().to_json().replace("{", '{"seed": 1,', 1)
    with pytest.raises(ValueError, match="must be JSON, .*'seed' twice"):
        config.from_json(text)


def test_a_network_that_no_memory_holds_is_one_sentence(tmp_path, capfd):
    argv = ["tfreg train", "--hidden=2147483647", f"--logdir={tmp_path}"]
    assert commands.run("train", argv) == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith("error: a run must fit in the memory, got a need of about")
    assert not list(tmp_path.iterdir())


def test_much_memory_is_told_beforehand(monkeypatch):
    settings, told = config.Config(hidden=(1000,), optimizer="momentum"), []
    x = np.zeros([10, 100], np.float32)
    part = data.Split(x, np.zeros(10, np.int32))
    dataset = data.Dataset("made", part, part, part, 1)
    run = runs.build(settings, dataset=dataset)
    count = sum(v.shape.num_elements() for v in run.loop.step.adapted.variables)
    # A weight, its slot, their copies and the gradient.
    assert memory.estimate(settings, dataset) == 5 * 4 * count + x.nbytes
    lion = dataclasses.replace(settings, optimizer="keras:Lion(1e-4)")
    assert memory.estimate(lion, dataset) >= memory.estimate(settings, dataset)
    for part, messages in {2: 1, 20: 0}.items():
        free = part * memory.estimate(settings, dataset)
        monkeypatch.setattr(memory, "get_free", lambda free=free: free)
        told.clear()
        memory.check(settings, dataset, told.append)
        assert len(told) == messages


def test_a_step_of_any_model_that_no_memory_holds_is_refused(monkeypatch):
    model = keras.Sequential([keras.layers.Dense(300), keras.layers.Dense(2)])
    x, y = np.zeros([10, 4], np.float32), np.zeros(10, np.int32)
    per_example = losses.sparse_softmax_cross_entropy
    trained = tfreg.Loop(
        tfreg.Step(model, per_example, optimizers.sgd(0.1)), data.Split(x, y), 5
    )
    assert trained.measure_forward() == 5 * 300 * 4
    parameters = 5 * 300 + 301 * 2
    # Gradients, copies of weights and step, the largest output and its gradient.
    needed = 4 * 2 * parameters + 8 + 2 * 5 * 300 * 4
    for free, refused in {needed - 1: True, needed: False}.items():
        monkeypatch.setattr(memory, "get_free", lambda free=free: free)
        expected = contextlib.nullcontext()
        if refused:
            expected = pytest.raises(ValueError, match="got a need of at least 28.8 kB")
        with expected:
            memory.check_step(trained, lambda text: None)


@pytest.mark.parametrize(
    ("own", "limit"),
    [
        ("0::/job/a", "job/a/memory.max"),
        ("5:cpu:/\n4:memory:/job/a", "memory/job/a/memory.limit_in_bytes"),
        ("0::/job/a", "memory.max"),  # In a container the root is its own.
    ],
)
def test_free_memory_is_what_the_cgroup_leaves(own, limit, tmp_path, monkeypatch):
    (tmp_path / limit).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / limit).write_text(f"{2**40}\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "own")
    assert memory.get_free() < 2**40
    (tmp_path / limit).write_text("1000\n")
    assert memory.get_free() == 0


def test_free_memory_is_what_ulimit_leaves():
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = pathlib.Path("/proc/self/statm").read_text().split()[0]
    virtual = int(pages) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + 10**9, limits[1]))
    try:
        assert 0.5e9 < memory.get_free() <= 1.1e9
        resource.setrlimit(resource.RLIMIT_AS, (virtual + 10**8, limits[1]))
        part = data.Split(np.zeros([1, 1], np.float32), np.zeros(1, np.int32))
        dataset = data.Dataset("made", part, part, part, 1)
        with pytest.raises(ValueError, match="need of about .*: .* or raise the limit"):
            memory.check(config.Config(), dataset, print)  # TensorFlow would abort.
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("kind", ["numpy", "import", "tensorflow"])
def test_exhausted_memory_is_one_sentence(capfd, kind):
    def allocate():
        if kind == "numpy":
            np.empty(2**62, np.uint8)
        if kind == "import":
            raise ImportError("a.so: failed to map segment from shared object")
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating [9]")

    assert process.run(allocate) == 6
    assert capfd.readouterr().err.startswith("error: a run must fit in the memory, got")


def test_the_threads_are_those_of_taskset_or_the_environment(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5})
    monkeypatch.setattr(results._tensorflow, "uses_onednn", lambda: False)
    assert results.describe_device() == "CPU, 3 threads"
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    assert results.describe_device() == "CPU, 7 threads"
    monkeypatch.setattr(results._tensorflow, "uses_onednn", lambda: True)
    assert results.describe_device() == "CPU, 7 threads, oneDNN"
    saved = {"config": "a", "tensorflow": "b", "device": "CPU, 3 threads"}
    saved["replicas"], told = 1, []
    current = saved | {"device": results.describe_device()}
    records.check_metadata(saved, current, told.append)
    assert told == [
        "the last bits may differ: device was CPU, 3 threads and is "
        "CPU, 7 threads, oneDNN"
    ]


@pytest.mark.parametrize(
    ("flags", "switch"),
    [
        ([], "1"),
        (["--strategy=mirrored", "--logical_devices=2"], "0"),
        (["--strategy=multi_worker"], "0"),
        (["--accumulate=2"], "0"),
    ],
)
def test_onednn_is_on_where_no_part_of_a_batch_may_be_empty(
    monkeypatch, tmp_path, flags, switch
):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(runs, "show", lambda settings, log: None)
    argv = ["tfreg train", "--dry_run", f"--logdir={tmp_path}", *flags]
    assert commands.run("train", argv) == 0
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == switch


def test_the_environments_choice_of_onednn_is_kept(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    process.import_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
