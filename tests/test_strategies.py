"""Choosing a strategy, and several workers on this machine's loopback."""

import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tfreg.training import strategies

TRAIN = pathlib.Path(__file__).resolve().parents[1] / "scripts" / "train.py"
FLAGS = ["--reg=l2", "--scale=1e-3", "--reg_on=kernel,bias", "--run_name=a"]


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="strategy must be one of auto, one, .*'two'"):
        strategies.make_strategy("two")


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}'])
def test_broken_tf_config_is_one_sentence(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG must be JSON with a cluster"):
        strategies.make_strategy("auto")


def test_multi_worker_must_know_its_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    with pytest.raises(ValueError, match="multi_worker must know its workers"):
        strategies.make_strategy("multi_worker")


def test_splitting_a_cpu_that_is_in_use_is_refused():
    tf.zeros([])
    with pytest.raises(ValueError, match="logical_devices must be set before .* got 3"):
        strategies.make_strategy("one", logical_devices=3)


def test_a_process_alone_is_the_chief():
    assert strategies.is_chief(tf.distribute.get_strategy())


def test_several_logical_cpus_are_mirrored_by_auto(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert strategies.make_strategy("auto").num_replicas_in_sync == 4
    assert strategies.make_strategy("one").num_replicas_in_sync == 1


def find_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(folder, command, tf_config=None):
    """Starts a worker in its own folder, where it leaves what it writes."""
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    if tf_config is not None:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_workers(folder, count, command):
    workers = [f"127.0.0.1:{port}" for port in find_ports(count)]
    return [
        start(
            folder / f"worker{i}",
            command,
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}},
        )
        for i in range(count)
    ]


def read_train(folder):
    return json.loads((folder / "runs" / "a" / "result.json").read_text())["train"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_workers_are_one_process(tmp_path, count):
    flags = ["--epochs=2", "--batch_size=52"]
    alone = start(tmp_path / "alone", [TRAIN, *FLAGS, *flags])
    assert alone.communicate(timeout=200)[1] is not None and alone.returncode == 0
    command = [TRAIN, *FLAGS, "--strategy=multi_worker", *flags]
    workers = start_workers(tmp_path, count, command)
    printed = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * count, printed
    assert all("epoch 2/2" in out.replace("  ", " ") for out, _ in printed)
    want, got = read_train(tmp_path / "alone"), read_train(tmp_path / "worker0")
    assert got["loss"] == pytest.approx(want["loss"], rel=2e-4)
    assert got["total"] == pytest.approx(want["total"], rel=2e-4)
    assert "tensorboard --logdir" in printed[0][0]
    for i in range(1, count):
        assert "tensorboard" not in printed[i][0]
        assert list((tmp_path / f"worker{i}").iterdir()) == []


TRAJECTORIES = """
import json, sys
from tfreg.training import strategies
strategy = strategies.make_strategy(sys.argv[1])
import test_replicas
test_replicas.make_strategy = lambda kind: strategy
found = {}
for case, (model, optimizer, arguments) in test_replicas.TRAJECTORIES.items():
    found[case] = test_replicas.train(None, model, optimizer, **arguments)[0]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_200_steps_of_two_processes_are_those_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.fspath(pathlib.Path(__file__).parent), ":")
    command = ["-c", TRAJECTORIES]
    alone = start(tmp_path / "alone", [*command, "one"])
    workers = start_workers(tmp_path, 2, [*command, "multi_worker"])
    printed = [each.communicate(timeout=500) for each in (alone, *workers)]
    want, *found = [json.loads(out.splitlines()[-1]) for out, _ in printed]
    assert set(want) == {"clipped", "accumulated", "normalized"}
    for got in found:
        for case, losses in want.items():
            assert got[case] == pytest.approx(losses, rel=1e-4), case


@pytest.mark.slow
def test_workers_resume_to_the_bit_from_what_the_chief_wrote(tmp_path):
    command = [TRAIN, *FLAGS, "--strategy=multi_worker", "--dropout=0.3"]
    hashes = []
    for name, parts in {"whole": [4], "parts": [2, 4]}.items():
        for epochs in parts:
            flags = [f"--logdir={tmp_path / name}", f"--epochs={epochs}", "--resume"]
            folder = tmp_path / f"{name}{epochs}"
            folder.mkdir()
            workers = start_workers(folder, 2, [*command, *flags])
            printed = [worker.communicate(timeout=300) for worker in workers]
            assert [worker.returncode for worker in workers] == [0, 0], printed
        newest = sorted((tmp_path / name / "a" / "checkpoints").iterdir())[-1]
        hashes.append(read_hash(newest))
    assert hashes[0] == hashes[1]


def read_hash(checkpoint):
    """Returns a digest of a checkpoint's name and values."""
    reader = tf.train.load_checkpoint(str(checkpoint / "state"))
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("_VALUE")]
    digest = hashlib.sha256(checkpoint.name.encode())
    for name in sorted(names):
        digest.update(name.encode() + np.asarray(reader.get_tensor(name)).tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_others_end_with_75_when_a_worker_is_killed(tmp_path):
    command = [TRAIN, *FLAGS, "--strategy=multi_worker", "--epochs=500"]
    workers = start_workers(tmp_path, 2, command)
    config = tmp_path / "worker0" / "runs" / "a" / "config.json"
    events = tmp_path / "worker0" / "runs" / "a" / "validation"
    deadline = time.monotonic() + 200
    while not (config.exists() and events.exists()) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(3)
    workers[1].kill()
    out, err = workers[0].communicate(timeout=60)
    assert workers[0].returncode == 75, err
    assert "error: all workers must keep running" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert json.loads(config.read_text())["run_name"] == "a"
