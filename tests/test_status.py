"""What status.json and `tfreg status` say of runs that train, or have ended."""

import dataclasses
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import forks
import pytest
import test_resume

from tfreg import runs
from tfreg.cli import commands
from tfreg.runs import directories, signals, status

points = test_resume.points


def read(path):
    return json.loads((path / "status.json").read_text())


def train_until_killed(settings):
    """Trains, and kills its process once a second checkpoint is said to be saved."""
    path = directories.get_path(settings)

    def is_interrupted():
        if (path / "status.json").exists() and (read(path)["saved"] or 0) > 0:
            assert status.read(path).state == "running"  # Its lock is held.
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    runs.train(settings, resume=True, is_interrupted=is_interrupted)
    return 0


def test_the_table_says_how_each_run_has_ended(points, tmp_path, capsys):
    usual = {"epochs": 2}
    make = test_resume.make_settings
    runs.train(make(points, tmp_path, "done", **usual))
    stopped = make(points, tmp_path, "stopped", **usual)
    with pytest.raises(signals.Interrupted):
        count = itertools.count()
        interrupted = lambda: signal.SIGTERM if next(count) > 2 else 0  # noqa: E731
        runs.train(stopped, is_interrupted=interrupted)
    killed = make(points, tmp_path, "killed", **usual)
    job = forks.Job(tmp_path, train_until_killed, killed)
    assert job.wait() == -signal.SIGKILL, job.read()
    bad = make(points, tmp_path, "bad", optimizer="sgd", learning_rate=1e38, **usual)
    with pytest.raises(ArithmeticError):
        runs.train(bad)
    assert read(tmp_path / "done") | {"pid": 0} == read(tmp_path / "done") | {
        "state": "finished",
        "step": 18,
        "steps": 18,
        "saved": 18,
        "workers": [{**status.describe_process(), "state": "ended"}],
        "pid": 0,
    }
    assert read(tmp_path / "killed")["state"] == "running"  # It could say no more.
    assert commands.run("status", ["tfreg status", str(tmp_path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()[-5:]
    assert head.split()[:3] == ["run", "state", "step"]
    rows = {pathlib.Path(line.split()[0]).name: line for line in lines}
    assert rows["done"].split()[1:3] == ["finished", "18/18"]
    assert "interrupted: SIGTERM" in rows["stopped"]
    assert "failed: LossError: " in rows["bad"]
    assert " killed " in rows["killed"]
    for name in ("stopped", "killed", "bad"):
        assert f"tfreg train --resume --run={tmp_path / name}" in rows[name]


def test_status_imports_no_tensorflow_and_refuses_what_is_no_directory(tmp_path):
    code = (
        "import sys; from tfreg.cli import commands; "
        "status = commands.main(['tfreg', 'status', *sys.argv[1:]]); "
        "assert 'tensorflow' not in sys.modules; sys.exit(status)"
    )
    for path, wanted in {tmp_path: 0, tmp_path / "none": 2}.items():
        command = [sys.executable, "-c", code, str(path)]
        assert subprocess.run(command, capture_output=True).returncode == wanted


def test_a_status_that_cannot_be_written_stops_no_run(points, tmp_path, monkeypatch):
    def refuse(path, content, write=status.files.write):
        if pathlib.Path(path).name == "status.json":
            raise OSError("no space")
        return write(path, content)

    monkeypatch.setattr(status.files, "write", refuse)
    settings = test_resume.make_settings(points, tmp_path, "a", epochs=1)
    assert runs.train(settings)["steps"] == 9
    assert status.read(tmp_path / "a").state == "finished"


def test_a_run_says_who_its_chief_waits_for(points, tmp_path, capsys):
    settings = test_resume.make_settings(points, tmp_path, "a", epochs=1)
    with status.waiting(tmp_path / "a") as note:
        note("worker 1 at host:2222")
    assert not (tmp_path / "a").exists()  # It is new, and may be refused yet.
    runs.train(settings)
    with status.waiting(tmp_path / "a") as note:
        pass
    assert read(tmp_path / "a")["state"] == "finished"
    with pytest.raises(KeyError), status.waiting(tmp_path / "a") as note:
        note("worker 1 at host:2222")
        table = status.format_table([tmp_path])
        assert "waiting: for worker 1 at host:2222" in table
        assert f"{os.getpid()} on " in table
        raise KeyError("gone")
    assert status.read(tmp_path / "a").reason == "KeyError: 'gone'"
    assert "waiting for worker 1 at host:2222" in capsys.readouterr().err


def test_the_table_has_the_workers_of_a_run_and_how_long_it_has_been_silent(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (path / "config.json").write_text("{}")
    workers = [{"host": "h", "pid": i, "state": s} for i, s in enumerate(["ended"] * 2)]
    workers[1]["state"] = "lost"
    old = "2020-01-01T00:00:00+00:00"
    written = status.Status("running", updated_at=old, workers=workers)
    (path / "status.json").write_text(json.dumps(dataclasses.asdict(written)))
    with directories.claim(path, resume=True):
        table = status.format_table([path])
        assert re.search(r"running, silent for \d{8,} s", table)
        assert re.search(r"^  worker 1 +lost .* 1 on h$", table, re.M)
    assert "killed" in status.format_table([path])
