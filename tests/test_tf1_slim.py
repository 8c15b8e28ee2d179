"""tf_slim's own tests, with tfreg's functions instead of slim's."""

import os
import pathlib
import re

import forks
import pytest
import tensorflow as tf
import tf_slim

from tfreg import tf1

FOLDER = pathlib.Path(tf_slim.__file__).parent


def run_slims_tests(files):
    """Runs pytest; returns its exit status."""
    options = ["-q", "-p", "slim_shim", "-p", "no:cacheprovider", "-c", os.devnull]
    return int(pytest.main([*options, "--rootdir=.", *map(str, files)]))


@pytest.mark.slow  # They turn eager execution off, so they run in a process of theirs.
def test_slims_tests_of_regularizers_and_arg_scope_pass(tmp_path):
    files = [FOLDER / "layers/regularizers_test.py", FOLDER / "ops/arg_scope_test.py"]
    job = forks.Job(tmp_path, run_slims_tests, files)
    assert job.wait() == 0, job.read()
    passed = re.search(r"^(\d+) passed", job.read(), re.MULTILINE)
    defined = [re.findall(r"^  def (test\w+)", f.read_text(), re.M) for f in files]
    names = {name for found in defined for name in found}
    assert passed and int(passed[1]) >= len(names), job.read()


def test_an_explicit_none_overrides_the_scopes_default():
    @tf1.add_arg_scope
    def layer(x, regularizer=None, scale=1.0):
        return x, regularizer, scale

    with tf1.arg_scope([layer], regularizer="l2") as scope:
        assert layer(1) == (1, "l2", 1.0)
        assert layer(1, regularizer=None) == (1, None, 1.0)
        with tf1.arg_scope([layer], scale=2.0):
            assert layer(1) == (1, "l2", 2.0)
    assert layer(1) == (1, None, 1.0)
    with tf1.arg_scope(scope):
        assert layer(1) == (1, "l2", 1.0)
    assert tf1.arg_scoped_arguments(layer) == ("regularizer", "scale")
    assert tf1.has_arg_scope(tf1.layers.conv2d)


@pytest.mark.parametrize(
    ("enter", "error", "message"),
    [
        (lambda: tf1.arg_scope(len, a=1), TypeError, "must be a list, a tuple or a sc"),
        (lambda: tf1.arg_scope([len], a=1), ValueError, "decorated by add_arg_scope"),
        (lambda: tf1.arg_scope({}, a=1), ValueError, "kwargs must be empty .*'a'"),
    ],
)
def test_what_takes_no_defaults_is_refused(enter, error, message):
    with pytest.raises(error, match=message), enter():
        pass
    with pytest.raises(ValueError, match="add_arg_scope"):
        tf1.arg_scoped_arguments(len)


def test_replicas_see_the_scope_of_whoever_runs_them(two_replicas):
    @tf1.add_arg_scope
    def layer(x, scale=1.0):
        return x * scale

    def run():
        with tf1.arg_scope([layer], scale=3.0):
            outer = layer(tf.constant(1.0))
        return outer + layer(tf.constant(1.0))

    with tf1.arg_scope([layer], scale=2.0):
        result = tf.function(lambda: two_replicas.run(run))()
    results = two_replicas.experimental_local_results(result)
    assert [float(r) for r in results] == [5.0, 5.0]
