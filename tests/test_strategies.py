"""Choosing a strategy, and several workers on this machine's loopback."""

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import signal
import socket
import time

import forks
import numpy as np
import pytest
import tensorflow as tf

from tfreg import optimizers
from tfreg.training import meeting, strategies

FLAGS = ["--reg=l2", "--scale=1e-3", "--reg_on=kernel,bias", "--run_name=a"]


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="strategy .*auto, one, .*'two'"):
        strategies.make_strategy("two")


WORKERS = '{"cluster": {"worker": ["a:1", "b:65535"]}, "task": %s}'


@pytest.mark.parametrize("name", ["auto", "multi_worker"])
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "TF_CONFIG must be JSON .*, got '{': see docs/replicas.md"),
        ("[" * 10_000, "TF_CONFIG must be JSON"),
        ("[]", "TF_CONFIG must be JSON"),
        ('{"cluster": 3}', "the cluster .* must list a host:port .*, got 3: "),
        ('{"task": {"type": "worker", "index": 0}}', "the cluster .*, got None: "),
        ('{"cluster": {"worker": "a:1"}}', "the cluster .*, got {'worker': 'a:1'}: "),
        ('{"cluster": {"worker": [5]}}', "the cluster "),
        ('{"cluster": {"worker": ["a"]}}', "the cluster "),
        ('{"cluster": {"worker": ["a:65536"]}}', "the cluster "),
        ('{"cluster": {"worker": ["a:1"]}}', "the task .* one of worker 0, .*None: "),
        (WORKERS % '"worker"', "the task .*, got 'worker': "),
        (WORKERS % '{"index": 0}', "the task .*, got {'index': 0}: "),
        (WORKERS % '{"type": "worker", "index": 2}', "of worker 0, worker 1, by .* 2"),
        (WORKERS % '{"type": "worker", "index": -1}', "the task "),
        (WORKERS % '{"type": "chief", "index": 0}', "the task "),
    ],
)
def test_broken_tf_config_is_one_sentence(monkeypatch, name, text, match):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=match) as caught:
        strategies.make_strategy(name)
    assert len(str(caught.value)) < 200


def test_multi_worker_must_know_its_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    with pytest.raises(ValueError, match="multi_worker"):
        strategies.make_strategy("multi_worker")


def test_splitting_a_cpu_that_is_in_use_is_refused():
    tf.zeros([])
    with pytest.raises(ValueError, match="logical_devices .* 3"):
        strategies.make_strategy("one", logical_devices=3)


def test_a_process_alone_is_the_chief():
    assert strategies.is_chief(tf.distribute.get_strategy())


def test_several_logical_cpus_are_mirrored_by_auto(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert strategies.make_strategy("auto").num_replicas_in_sync == 4
    assert strategies.make_strategy("one").num_replicas_in_sync == 1


def train(flags):
    """Runs scripts/train.py; returns its exit status."""
    return forks.run_script("train", flags)


def find_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(folder, count, call, *args):
    """Starts workers, each in its own folder, where it leaves what it writes."""
    workers = [f"127.0.0.1:{port}" for port in find_ports(count)]
    jobs = []
    for i in range(count):
        task = {"type": "worker", "index": i}
        tf_config = json.dumps({"cluster": {"worker": workers}, "task": task})
        jobs.append(start(folder / f"worker{i}", call, *args, TF_CONFIG=tf_config))
    return jobs


def start(folder, call, *args, TF_CONFIG=None):
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"TF_CONFIG": TF_CONFIG}
    return forks.Job(folder, call, *args, errors="err.txt", environment=environment)


def read_train(folder):
    return json.loads((folder / "runs" / "a" / "result.json").read_text())["train"]


@pytest.mark.slow
def test_several_workers_are_one_process(tmp_path):
    flags = [*FLAGS, "--epochs=2", "--batch_size=52"]  # 52 isn't a multiple of three.
    alone = start(tmp_path / "alone", train, flags)
    assert alone.wait() == 0, alone.read_errors()
    flags += ["--strategy=multi_worker"]
    workers = start_workers(tmp_path, 3, train, flags)
    assert [worker.wait() for worker in workers] == [0] * 3, workers[0].read_errors()
    printed = [worker.read() for worker in workers]
    assert all("epoch 2/2" in text.replace("  ", " ") for text in printed)
    want, got = read_train(tmp_path / "alone"), read_train(tmp_path / "worker0")
    assert got["loss"] == pytest.approx(want["loss"], rel=2e-4)
    assert got["total"] == pytest.approx(want["total"], rel=2e-4)
    assert "tensorboard --logdir" in printed[0]
    for i in (1, 2):
        assert "tensorboard" not in printed[i]
        written = {path.name for path in (tmp_path / f"worker{i}").iterdir()}
        assert written == {"log.txt", "err.txt"}


def train_trajectories(kind):
    """Trains two of test_replicas's models, and writes the losses of their epochs."""
    strategy = strategies.make_strategy(kind)
    import test_replicas

    test_replicas.make_strategy = lambda _: strategy
    cases = (
        (test_replicas.make_mlp, {"clip_norm": 0.1, "accumulate": 3}),
        (test_replicas.make_normalized, {}),
    )
    found = [
        test_replicas.train(None, model, optimizers.adam, **arguments)[0]
        for model, arguments in cases
    ]
    pathlib.Path("losses.json").write_text(json.dumps(found))
    return 0


@pytest.mark.slow
def test_200_steps_of_two_processes_are_those_of_one(tmp_path):
    jobs = [start(tmp_path / "alone", train_trajectories, "one")]
    jobs += start_workers(tmp_path, 2, train_trajectories, "multi_worker")
    assert [job.wait(500) for job in jobs] == [0, 0, 0], jobs[-1].read_errors()
    want, *found = [
        json.loads((tmp_path / name / "losses.json").read_text())
        for name in ("alone", "worker0", "worker1")
    ]
    assert all(losses[-1] < losses[0] / 2 for losses in want)  # There is something.
    for got in found:
        np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.slow
def test_workers_resume_to_the_bit_from_what_the_chief_has_on_its_own_disk(tmp_path):
    usual = [*FLAGS, "--strategy=multi_worker", "--dropout=0.3", "--resume"]
    hashes = []
    for name, parts in {"whole": [2], "parts": [1, 2]}.items():
        for epochs in parts:
            flags = [*usual, f"--epochs={epochs}"]
            workers = start_workers(tmp_path / name, 2, train, flags)
            statuses = [worker.wait() for worker in workers]
            assert statuses == [0, 0], workers[0].read_errors()
        saved = tmp_path / name / "worker0" / "runs" / "a" / "checkpoints"
        hashes.append(read_hash(sorted(saved.iterdir())[-1]))
        assert not (tmp_path / name / "worker1" / "runs").exists()
    assert hashes[0] == hashes[1]


def train_by_own_flags(flags):
    """Trains with flags of this worker's own, the last ones."""
    return train([*flags, *json.loads(pathlib.Path("flags.json").read_text())])


def check_refused(tmp_path, run, name, texts, status, message):
    """Checks that two workers with a file of their own end before a step."""
    for i, text in enumerate(texts):
        (tmp_path / f"worker{i}").mkdir()
        (tmp_path / f"worker{i}" / name).write_text(text)
    workers = start_workers(tmp_path, 2, run, [*FLAGS, "--strategy=multi_worker"])
    statuses = [worker.wait() for worker in workers]
    assert statuses == [status, status], workers[0].read_errors()
    for worker in workers:
        assert message in worker.read_errors()
    assert not (tmp_path / "worker0" / "runs").exists()


@pytest.mark.slow
def test_workers_with_other_settings_end_before_a_step(tmp_path):
    flags = [json.dumps([f"--learning_rate={0.001 * (i + 1)}"]) for i in range(2)]
    message = "worker 1 with learning_rate 0.002, not 0.001"
    check_refused(tmp_path, train_by_own_flags, "flags.json", flags, 2, message)


def train_on_own_points(flags):
    """Trains on as many random points as a file says, which the worker has alone."""
    count = int(pathlib.Path("count.txt").read_text())
    rng = np.random.default_rng(0)
    parts = {f"x_{part}": rng.normal(size=(count, 3)) for part in ("train", "test")}
    parts |= {f"y_{part}": np.arange(count) % 3 for part in ("train", "test")}
    np.savez("points.npz", **parts)
    return train([*flags, "--dataset=npz", "--data_dir=points.npz"])


@pytest.mark.slow
def test_workers_with_other_data_end_before_a_step(tmp_path):
    message = "same data, got others on worker 1"
    check_refused(tmp_path, train_on_own_points, "count.txt", ["60", "61"], 3, message)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_and_the_chief_saves(tmp_path):
    flags = [*FLAGS, "--strategy=multi_worker", "--epochs=500"]
    workers = start_workers(tmp_path, 2, train, flags)
    run = tmp_path / "worker0" / "runs" / "a"
    wait_for(run / "validation")
    os.kill(workers[1].pid, signal.SIGTERM)
    assert [worker.wait(60) for worker in workers] == [143, 143]
    assert "saved in runs/a" in workers[0].read_errors()
    assert "by SIGTERM, which worker 1 got: saved" in workers[0].read_errors()
    assert "the chief saves the run" in workers[1].read_errors()
    written = json.loads((run / "status.json").read_text())
    assert written["reason"] == "SIGTERM, which worker 1 got"
    assert [w["pid"] for w in written["workers"]] == [w.pid for w in workers]
    assert len(list((run / "checkpoints").iterdir())) > 1


def set_workers(monkeypatch, ports, index=0):
    places = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    text = json.dumps({"cluster": {"worker": places}, "task": task})
    monkeypatch.setenv("TF_CONFIG", text)


def test_a_worker_that_never_comes_is_named(monkeypatch):
    ports, told = find_ports(2), []
    set_workers(monkeypatch, ports)
    monkeypatch.setattr(meeting, "SECONDS", 0.1)
    match = f"come within 0.5 s, got none of worker 1 at 127.0.0.1:{ports[1]}: "
    with pytest.raises(meeting.WorkerError, match=match):
        strategies.make_strategy("multi_worker", wait=0.5, tell=told.append)
    assert set(told) == {f"worker 1 at 127.0.0.1:{ports[1]}"}


def test_a_port_that_is_taken_is_one_sentence(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        set_workers(monkeypatch, [taken.getsockname()[1], 1])
        with pytest.raises(meeting.WorkerError, match="free, got .* of worker 0 "):
            strategies.make_strategy("multi_worker", wait=0.3)


def test_another_program_at_the_port_of_a_worker_is_not_taken_for_it():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        places = {"worker 0": "127.0.0.1:0"}
        places["worker 1"] = f"127.0.0.1:{other.getsockname()[1]}"
        match = r"none of worker 1 at .* \(where something else listens\): "
        with pytest.raises(meeting.WorkerError, match=match):
            meeting.meet("worker 0", places, 0.3, print)


def test_workers_that_come_one_after_another_meet():
    ports = find_ports(3)
    places = {f"worker {i}": f"127.0.0.1:{port}" for i, port in enumerate(ports)}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        meet = functools.partial(meeting.meet, workers=places, wait=30, tell=print)
        met = []
        for name in places:
            met.append(pool.submit(meet, name))
            time.sleep(0.5)
        assert [each.result() for each in met] == [None] * 3


def wait_for(path):
    deadline = time.monotonic() + 200
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


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
    flags = [*FLAGS, "--strategy=multi_worker", "--epochs=500"]
    workers = start_workers(tmp_path, 2, train, flags)
    run = tmp_path / "worker0" / "runs" / "a"
    wait_for(run / "validation")
    time.sleep(1)
    os.kill(workers[1].pid, signal.SIGKILL)
    assert workers[0].wait(60) == 75, workers[0].read_errors()
    err = workers[0].read_errors()
    last = err.splitlines()[-1]
    assert last.startswith("error: all workers must keep running, got worker 1 lost (")
    assert "Traceback" not in err
    assert json.loads((run / "config.json").read_text())["run_name"] == "a"
    states = [
        w["state"] for w in json.loads((run / "status.json").read_text())["workers"]
    ]
    assert states == ["ended", "lost"]


def test_a_lost_worker_is_named_by_tensorflow_or_by_its_port(monkeypatch):
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        set_workers(monkeypatch, [1, there.getsockname()[1], 1])
        assert strategies._find_lost(["Socket closed"]) == [2]
    lines = ["The following tasks are unhealthy (stopped sending heartbeats):"]
    lines += ["/job:worker/replica:0/task:1", "Check: /job:worker/replica:0/task:0"]
    assert strategies._find_lost(lines) == [1]
    lines[0] = "The first: /job:worker/replica:0/task:0. Some timed out task names:"
    assert strategies._find_lost(lines) == [1]


def test_a_chief_that_is_silent_is_the_lost_one(monkeypatch):
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        port = there.getsockname()[1]
        set_workers(monkeypatch, [port, 1, port], index=1)
        lines = ["Collective ops is aborted by: Deadline Exceeded"]
        assert strategies._find_lost(lines) == [0]
        assert strategies._find_lost(["Invalid argument"]) == []
        set_workers(monkeypatch, [port, port], index=0)
        assert strategies._find_lost(lines) == []


def test_logical_gpus_of_one_card_are_summed_without_nccl(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a card"])
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices, ops: ops)
    make = strategies._make_mirrored.__wrapped__
    reduction = make(("GPU:0", "GPU:1"), "GPU")
    assert isinstance(reduction, tf.distribute.ReductionToOneDevice)
    assert make(("GPU:0",), "GPU") is None  # TensorFlow's choice, NCCL
