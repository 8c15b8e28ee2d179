"""tfreg.porting across modules: import *, stand-ins, and odd files."""

import ast
import functools
import importlib
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tfreg import tf1
from tfreg.cli import commands
from tfreg.porting import literals, rewriting, stand_ins, tensorflow2

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def port(capfd, tmp_path, monkeypatch):
    """Returns a function: files by name -> status, report; they are in new/."""
    monkeypatch.chdir(tmp_path)

    def run(**sources):
        for name, source in sources.items():
            path = pathlib.Path("src", name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(source)
        status = commands.run("port", ["tfreg port", "src", "--out=new"])
        return status, capfd.readouterr().err

    return run


def read(name):
    return pathlib.Path("new", name).read_text()


OPS = "import tensorflow as tf\nimport tensorflow.contrib.slim as slim\n"
NET = "def net(x):\n    return slim.conv2d(tf.log(x), 8, 3)\n"


@pytest.mark.parametrize("listed", ["", "__all__ = ['tf', 'slim']\n"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_names_from_import_star_are_resolved(port, listed, depth):
    between = {f"m{i}": f"from m{i - 1} import *\n" for i in range(1, depth)}
    if listed:
        between = {k: f"{v}{listed}" for k, v in between.items()}
    status, report = port(
        m0=OPS + listed, **between, net=f"from m{depth - 1} import *\n{NET}"
    )
    assert "tf1.layers.conv2d(tf.compat.v1.log(x), 8, 3)" in read("net.py")
    assert (status, "0 to write by hand" in report) == (0, True)


def test_a_name_that_all_leaves_out_is_not_resolved(port):
    port(ops=f"{OPS}__all__ = ['tf']\n", net=f"from ops import *\n{NET}")
    assert "slim.conv2d(tf.compat.v1.log(x), 8, 3)" in read("net.py")


def test_names_from_a_package_and_its_attributes_are_resolved(port):
    port(
        lib____init__="",
        lib__ops=OPS,
        a=f"from lib.ops import tf, slim\n{NET}",
        b="import lib.ops\ny = lib.ops.slim.flatten(x)\n",
        lib__c=f"from .ops import *\n{NET}",
    )
    assert "tf1.layers.conv2d(tf.compat.v1.log(x), 8, 3)" in read("a.py")
    assert "y = tf1.layers.flatten(x)" in read("b.py")
    assert "tf1.layers.conv2d(tf.compat.v1.log(x), 8, 3)" in read("lib/c.py")


def test_an_import_that_another_module_takes_is_kept(port):
    port(ops=f"{OPS}{NET}", net="from ops import *\nx = slim.unknown\n")
    assert 'slim = unported("tf.contrib.slim")' in read("ops.py")
    ast.parse(read("ops.py"))


def test_import_star_of_an_unknown_module_is_taken_for_tensorflow(port):
    status, report = port(net="from elsewhere import *\nx = lambda: tf.foo(1)\n")
    assert status == 1
    assert "src/net.py:2: tf.foo: TensorFlow 2 has no tf.foo" in report


@pytest.mark.parametrize(
    "line",
    [
        "import tensorflow.contrib.slim as slim",
        "import tensorflow as tf\nslim = tf.contrib.slim",
        "from tensorflow.contrib import slim",
    ],
)
def test_a_stand_in_raises_where_it_is_used(line):
    source = f"{line}\n\n\ndef f(x):\n    return slim.unknown(x)\n"
    result = rewriting.rewrite(source.encode())
    code = result.source.decode().replace("import tensorflow as tf\n", "")
    module: dict = {}
    exec(code, module)  # The import doesn't fail.
    with pytest.raises(NotImplementedError, match=r"tf\.contrib\.slim\.unknown must"):
        module["f"](1)
    names = [note.name for note in result.left]
    assert names == ["tf.contrib.slim", "slim.unknown"]


@pytest.mark.parametrize(
    "line, ported",
    [
        ("tf.Variable(x, False, name='w')", "tf1.Variable(x, False, name='w')"),
        ("tf.nn.dropout(x, 1 - d)", "tf.compat.v1.nn.dropout(x, 1 - d)"),
        (
            "tf.train.ExponentialMovingAverage(0.9)",
            "tf1.ExponentialMovingAverage(0.9)",
        ),
    ],
)
def test_what_tensorflow_2_means_otherwise_is_rewritten_in_tf1_code(line, ported):
    old = f"import tensorflow as tf\n\n\ndef f(x):\n    return {line}, tf.log(x)\n"
    result = rewriting.rewrite(old.encode())
    assert f"return {ported}, tf.compat.v1.log(x)" in result.source.decode()
    assert rewriting.rewrite(result.source).source == result.source
    modern = old.replace("tf.log", "tf.exp").encode()
    assert rewriting.rewrite(modern).source == modern


FORWARD = (
    "import tensorflow as tf\n\n\ndef f(x):\n"
    "    return tf.nn.dropout(x, 0.9), tf.Variable(x)\n"
)
GRAPH = "import net\nimport tensorflow as tf\nx = tf.{}placeholder('float32', [2])\n"


@pytest.mark.parametrize(
    "old, forms",
    [
        ("", "tf.compat.v1.nn.dropout(x, 0.9), tf1.Variable(x)"),
        # After tf_upgrade_v2, which has changed the dropout.
        ("compat.v1.", "tf.nn.dropout(x, 0.9), tf1.Variable(x)"),
    ],
)
def test_a_file_means_what_the_files_that_import_it_do(port, old, forms):
    port(net=FORWARD, train=GRAPH.format(old), lone=FORWARD)
    assert forms in read("net.py")
    assert read("lone.py") == FORWARD  # May be TensorFlow 2's.


def test_private_modules_that_are_there_stop_no_import():
    source = (
        "from tensorflow.python.framework import constant_op, dtypes, tensor_shape\n"
        "from tensorflow.python.ops import array_ops, control_flow_ops, init_ops, nn\n"
        "ONE = constant_op.constant(1, dtypes.int32)\n"
        "START = init_ops.ones_initializer(), nn.relu, array_ops.zeros\n"
    )
    left = rewriting.rewrite(source.encode()).left
    assert len(left) == 5 and not any(note.fails_at_import for note in left)
    exec(source, {})  # The truth.


def test_a_session_in_a_file_without_tensorflow_is_reported(port):
    look = "import train\n\n\ndef f(sess, y):\n    return sess.run(y)\n"
    _, report = port(net=FORWARD, train=GRAPH.format(""), look=look)
    assert "look.py:5: sess.run" in report
    train = "import net\n"  # Written by hand, and no sign of TF1 is left in it.
    _, report = port(net=read("net.py"), train=train, look=look)
    assert "look.py:5: sess.run" in report


@pytest.mark.parametrize("sign", ["+", "-", "*", "/"])
def test_an_operation_on_a_variable_in_place_gives_a_tensor(sign):
    head = "import tensorflow as tf\n\n\ndef f(x):\n"
    line = f"    w = tf.get_variable('w', [2])\n    w {sign}= x + 1.0\n    return w\n"
    result = rewriting.rewrite(f"{head}{line}".encode())
    script: dict = {}
    exec(result.source, script)
    net = tf1.Model(script["f"])
    got = net(3.0)
    (w,) = net.variables
    assert not isinstance(got, tf.Variable)
    np.testing.assert_allclose(got, eval(f"w.numpy() {sign} 4.0"), rtol=1e-6)
    plain = f"{head}    x {sign}= 1.0\n    return tf.log(x)\n".encode()
    assert f"x {sign}= 1.0".encode() in rewriting.rewrite(plain).source


def test_a_default_of_a_placeholder_runs_and_is_told():
    line = b"import tensorflow as tf\nx = tf.placeholder_with_default(1.0, [])\n"
    result = rewriting.rewrite(line)
    assert b"x = tf.compat.v1.placeholder_with_default(1.0, [])" in result.source
    assert [note.name for note in result.left] == ["tf.placeholder_with_default"]


def test_a_class_of_a_stand_in_fails_where_an_object_is_made():
    class Cell(stand_ins.unported("tf.contrib.rnn.ConvLSTMCell")):
        pass

    with pytest.raises(NotImplementedError, match="write a subclass"):
        Cell()


@pytest.mark.parametrize(
    "line, advice",
    [
        ("tf.contrib.metrics.streaming_covariance(x)", "tf.keras.metrics"),
        ("tf.contrib.slim.metrics.streaming_percentile(x)", "tf.keras.metrics"),
        ("tf.metrics.auc(x, x, curve='PR')", "tf1.metrics.auc has no curve"),
        ("tf.graph_util.convert_variables_to_constants(x)", "tf.saved_model.save"),
        ("tf.app.flags.FLAGS._parse_flags()", "leave it out"),
    ],
)
def test_the_advice_names_what_to_write(line, advice):
    source = f"import tensorflow as tf\n\n\ndef f(x):\n    return {line}\n"
    (note,) = rewriting.rewrite(source.encode()).left
    assert advice in note.text and note.line == 5


def test_an_arg_scope_takes_stand_ins():
    pool = stand_ins.unported("tf.contrib.slim").max_pool3d
    with tf1.arg_scope([pool, tf1.layers.conv2d], padding="VALID"):
        assert tf1.current_arg_scope().keys() == {tf1.layers.conv2d._key_op}
        with pytest.raises(NotImplementedError, match="max_pool3d must be ported"):
            pool(1)


def test_a_stand_in_tells_the_new_name():
    with pytest.raises(NotImplementedError, match=r"write tf1\.layers\.conv2d"):
        stand_ins.unported("tf.contrib.slim").conv2d(1)


@pytest.mark.parametrize(
    "before, after",
    [
        ("tf.concat(1, [a, b])", "tf.concat([a, b], 1)"),
        ("tf.concat(concat_dim=1, values=x)", "tf.concat(x, 1)"),
        ("tf.concat(axis, [a, b])", "tf.concat([a, b], axis)"),
        ("tf.concat([a, b], 1)", "tf.concat([a, b], 1)"),
        ("tf.split(0, 3, x)", "tf.split(x, 3, 0)"),
        ("tf.split(x, 3, 0)", "tf.split(x, 3, 0)"),
        ("tf.sub(a, b)", "tf.subtract(a, b)"),
        ("tf.pack([a, b])", "tf.stack([a, b])"),
        ("tf.batch_matmul(a, b, adj_y=True)", "tf.matmul(a, b, adjoint_b=True)"),
        ("tf.where(m, a, b)", "tf.compat.v1.where(m, a, b)"),
        ("tf.where(m)", "tf.where(m)"),
        ("tf.nn.in_top_k(p, t, 5)", "tf.compat.v1.nn.in_top_k(p, t, 5)"),
        (
            "tf.nn.depthwise_conv2d(x, w, s, p, rate=r)",
            "tf.compat.v1.nn.depthwise_conv2d(x, w, s, p, rate=r)",
        ),
        (
            "tf.nn.sigmoid_cross_entropy_with_logits(a, b)",
            "tf.nn.sigmoid_cross_entropy_with_logits(logits=a, labels=b)",
        ),
        (
            "tf.nn.dropout(x, keep_prob)",
            "tf.compat.v1.nn.dropout(x, keep_prob)",
        ),
        ("tf.argmax(x, dimension=1)", "tf.compat.v1.argmax(x, dimension=1)"),
        ("tf.constant_initializer(0.1)", "tf.constant_initializer(0.1)"),
        (
            "tf.constant_initializer(0.1, tf.float32)",
            "tf.compat.v1.constant_initializer(0.1, tf.float32)",
        ),
        ("x.get_shape()[1].value", "x.get_shape()[1]"),
    ],
)
def test_changed_signatures_are_rewritten(before, after):
    source = f"import tensorflow as tf\ny = {before}\n"
    result = rewriting.rewrite(source.encode())
    assert result.source.decode() == f"import tensorflow as tf\ny = {after}\n"
    assert not result.left


@pytest.mark.parametrize(
    "line, name",
    [
        ("import tensorflow.contrib.slim as slim", "slim.init_ops.zeros_initializer"),
        ("from tensorflow.python.ops import init_ops", "init_ops.zeros_initializer"),
    ],
)
def test_private_initializers_become_public_ones(line, name):
    result = rewriting.rewrite(
        f"import tensorflow as tf\n{line}\nz = {name}()\n".encode()
    )
    assert result.source.decode().endswith("\nz = tf.compat.v1.zeros_initializer()\n")
    assert b"slim" not in result.source and not result.left
    alone = rewriting.rewrite(f"{line}\nz = {name}()\n".encode())
    assert name.encode() in alone.source
    assert "write tf.compat.v1.zeros_initializer" in {note.text for note in alone.left}


@pytest.mark.parametrize(
    "line, name",
    [
        ("print(tf.log(x).op.name)", "op.name"),
        ("y = tf.nn.relu(tf.log(x)); print(y.name)", "y.name"),
        ("y = tf.log(x); y = tf.nn.relu(y); print(y.name)", "y.name"),
        ("y = tf.log(x).eval()", "eval"),
        ("tf.summary.scalar('a', x)", "tf.summary.scalar"),
        ("tf.merge_all_summaries()", "summary.merge_all"),
        ("i = tf.initialize_all_variables()", "global_variables_initializer"),
        ("g = opt.apply_gradients(tf.log(x))", "opt.apply_gradients"),
        ("r = tf.train.exponential_decay(0.1, s, 1, 0.5)", "exponential_decay"),
        ("r = tf.get_variable('w', [2])", "get_variable"),
        ("x = tf.nowhere(1)", "tf.nowhere"),
    ],
)
def test_what_eager_code_lacks_is_reported_in_every_run(line, name):
    result = rewriting.rewrite(f"import tensorflow as tf\n{line}\n".encode())
    assert any(name in note.name for note in result.left)
    again = rewriting.rewrite(result.source)
    assert {n.text for n in again.left} == {n.text for n in result.left}


def test_a_schedule_of_an_optimizer_is_as_it_was():
    source = (
        "import tensorflow as tf\nrate = tf.train.exponential_decay(0.1, s, 1, 0.5)\n"
        "optimizer = tf.train.AdamOptimizer(rate)\n"
    )
    assert not rewriting.rewrite(source.encode()).left


@pytest.mark.parametrize("part", ["0, ", "[-1.5, {2: 3}], "])
def test_a_long_line_is_ported_in_linear_time(part):
    table = part * 200_000
    source = f"import tensorflow as tf\nX = [{table}]\ny = tf.log(X)\n".encode()
    short, cut = literals.cut(source)
    result = rewriting.rewrite(short)
    full = literals.restore(result.source, cut)
    assert len(short) < 200
    assert full == source.replace(b"tf.log", b"tf.compat.v1.log")


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_pipe_or_device_is_told_and_the_next_file_ported(port, tmp_path, kind):
    (tmp_path / "src").mkdir()
    place = tmp_path / "src" / "a.py"
    os.mkfifo(place) if kind == "fifo" else place.symlink_to("/dev/zero")
    status, report = port(b="import tensorflow as tf\nx = tf.log(x)\n")
    assert status == 1
    assert "src/a.py must be a regular file" in report
    assert "tf.compat.v1.log" in read("b.py")


def test_a_link_to_nothing_below_out_is_not_written_through(port, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.py").symlink_to(tmp_path / "elsewhere.py")
    status, report = port(a="import tensorflow as tf\nx = tf.log(x)\n")
    assert status == 1
    assert "got a link to nothing" in report
    assert not (tmp_path / "elsewhere.py").exists()


def test_no_line_of_the_corpus_is_left_without_a_word(capfd, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    scan = importlib.import_module("scan_port")
    assert scan.main(ROOT / "tests" / "tf1_corpus") == 0
    source = b"import tensorflow as tf\nx = tf.placeholder(1)\n"
    silent = scan.find_silent(rewriting.Result(source))
    assert silent == ["tf.placeholder"]  # It does find them.


def test_what_tensorflow_has_is_listed():
    for module, members in tensorflow2.MODULES.items():
        holder = functools.reduce(getattr, module.split(".")[1:], tf)
        missing = {n for n in dir(holder) if n[0] != "_"} - members
        assert missing <= {"python", "core", "tools"}
    assert tensorflow2.lacks("tf.nn.rnn_cell.LSTMCell") == "tf.nn.rnn_cell"
    assert tensorflow2.lacks("tf.float32.as_numpy_dtype") is None
