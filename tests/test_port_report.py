"""tfreg.porting.report: kinds, what can be imported, what to do next."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tfreg.cli import commands
from tfreg.porting import report, rewriting

FILES = {
    "train.py": "import net\nimport tensorflow as tf\n\n\ndef f():\n    tf.Session()\n",
    "net.py": "from ops import conv\nimport tensorflow as tf\n\n\ndef g(x):\n"
    "    tf.summary.merge_all()\n    return x.eval(), tf.placeholder(tf.float32)\n",
    "ops.py": "import tensorflow as tf\n\nconv = tf.nothing(1)\n",
    "alone.py": "import tensorflow as tf\n\nx = tf.constant(1)\n",
}


@pytest.fixture
def port(tmp_path, monkeypatch, capfd):
    """Returns a function: flags -> status, stdout, stderr of a port of FILES."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("src")
    for name, source in FILES.items():
        pathlib.Path("src", name).write_text(source)

    def run(*flags):
        status = commands.run("port", ["tfreg port", "src", *flags])
        return status, *capfd.readouterr()

    return run


def test_json_tells_what_the_text_tells(port):
    status, out, err = port("--json", "--out=new")
    content = json.loads(out)
    assert (status, err) == (1, "")
    assert content["totals"] == {
        "read": 4, "changed": 0, "not_ported": 0, "rewritten": 0, "left": 5
    }  # fmt: skip
    assert content["kinds"] == {"name": 1, "input": 1, "session": 2, "summary": 1}
    text = port("--out=new")[2].splitlines()
    for file in content["files"]:
        lines = [
            f"{n['path']}:{n['line']}: {n['name']}: {n['text']}" for n in file["left"]
        ]
        assert [line for line in text if line in lines] == lines  # In the same order.
    first = content["next"]
    assert (
        f"next: {first['path']}:{first['line']}: {first['name']}: {first['text']}"
        in text
    )


def test_what_is_imported_first_comes_next(port):
    first = json.loads(port("--json")[1])["next"]
    assert (first["path"], first["name"]) == ("src/ops.py", "tf.nothing")


def test_a_file_that_can_be_imported_is(port):
    """Python's own import is the truth, with the ported files."""
    content = json.loads(port("--json", "--out=new")[1])
    expected = {pathlib.Path(f["path"]).stem: f["obstacle"] for f in content["files"]}
    assert expected == {
        "train": "src/ops.py:3", "net": "src/ops.py:3", "ops": "src/ops.py:3",
        "alone": None,
    }  # fmt: skip
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    try:\n"
    code += "        importlib.import_module(name)\n    except AttributeError:\n"
    code += "        print(name)\n"
    process = subprocess.run(
        [sys.executable, "-c", code, *expected], cwd="new", capture_output=True
    )
    failed = process.stdout.decode().split()
    assert failed == [name for name, obstacle in expected.items() if obstacle]


def test_a_file_that_was_not_ported_stops_those_that_import_it(port):
    pathlib.Path("src/ops.py").write_text("x = (\n")
    content = json.loads(port("--json", "--out=new")[1])
    assert [f["obstacle"] for f in content["files"]] == [
        None,
        "src/ops.py",
        "src/ops.py",
    ]
    assert content["errors"][0]["error"].startswith("src/ops.py must be Python 3")


@pytest.mark.parametrize(
    "line, kind",
    [
        ("sess.run(x)", "session"),
        ("tf.global_variables_initializer()", "delete"),
        ("tf.train.batch([x], 1)", "input"),
        ("tf.train.Saver()", "checkpoint"),
        ("tf.summary.scalar('a', x)", "summary"),
        ("tf.contrib.crf.crf_decode(x)", "name"),
        ("y = tf.abs(x)\n    y.op.name", "tensor"),
        ("o = tf.train.AdamOptimizer()\n    o.compute_gradients(x)", "training"),
        ("tf.make_template('a', f)", "variable"),
    ],
)
def test_a_note_has_a_kind(line, kind):
    source = (
        f"import tensorflow as tf\n\n\ndef f(x, sess):\n    {line}\n    tf.log(x)\n"
    )
    (note,) = rewriting.rewrite(source.encode()).left
    assert report.find_kind(note) == kind
