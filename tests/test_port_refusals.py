"""TF1 idioms that can't be rewritten: each is reported with its line, and kept.

The lines that end in `# left` have to be reported, and no others.
"""

import ast
import textwrap

import pytest

from tfreg.porting import rewriting

HEAD = "import tensorflow as tf\nimport tensorflow.contrib.slim as slim\n"

IDIOMS = {
    "placeholders and sessions": """
    x = tf.placeholder(tf.float32, [None, 3])  # left
    with tf.Session(config=config) as sess:  # left
        sess.run(tf.global_variables_initializer())  # left
        for batch in data:
            print(sess.run(loss, feed_dict={x: batch}))  # left
    """,
    "an interactive session": """
    sess = tf.InteractiveSession()  # left
    sess.run(loss)  # left
    """,
    "queue runners": """
    queue = tf.train.string_input_producer(names)  # left
    reader = tf.TFRecordReader()  # left
    _, example = reader.read(queue)
    images = tf.train.shuffle_batch([example], 32, 100, 50)  # left
    coordinator = tf.train.Coordinator()  # left
    threads = tf.train.start_queue_runners(coord=coordinator)  # left
    """,
    "a while loop whose body collects": """
    def body(i, x):
        tf.add_to_collection("losses", tf.nn.l2_loss(x))
        return i + 1, x * 2
    tf.while_loop(lambda i, x: i < 3, body, [0, x])  # left
    """,
    "a while loop whose body makes variables": """
    tf.while_loop(cond, lambda x: slim.fully_connected(x, 3), [x])  # left
    """,
    "a branch that collects": """
    tf.cond(p, lambda: tf.losses.mean_squared_error(a, b), lambda: 0.0)  # left
    """,
    "control dependencies on update ops": """
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)  # left
    with tf.control_dependencies(update_ops):  # left
        train_op = optimizer.minimize(loss)  # left
    """,
    "control dependencies on update ops, directly": """
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):  # left
        pass
    """,
    "gradients by hand": """
    optimizer = tf.train.AdamOptimizer()
    grads = optimizer.compute_gradients(loss)  # left
    train_op = optimizer.apply_gradients(grads)  # left
    other = tf.gradients(loss, weights)  # left
    """,
    "slim's training loop": """
    slim.learning.train(train_op, logdir)  # left
    slim.evaluation.evaluate_once("", path, logdir)  # left
    """,
    "an estimator": """
    estimator = tf.estimator.Estimator(model_fn, "/tmp/x")  # left
    spec = tf.estimator.EstimatorSpec(mode, loss=loss)  # left
    """,
    "a supervisor and its hooks": """
    with tf.train.MonitoredTrainingSession(hooks=[  # left
            tf.train.StopAtStepHook(10)]) as sess:  # left
        sess.run(train_op)
    saver = tf.train.Saver()  # left
    """,
    "cells": """
    cell = tf.contrib.rnn.UGRNNCell(8)  # left
    outputs, _ = tf.nn.raw_rnn(cell, loop)  # left
    """,
    "partitions": """
    part = tf.fixed_size_partitioner(2)  # left
    w = tf.get_variable("w", [2])  # left
    """,
    "parts of contrib that tfreg has not": """
    x = slim.conv3d(x, 8, 3)  # left
    x = tf.contrib.crf.crf_log_likelihood(x, y, z)  # left
    f = getattr(slim, "conv2d")  # left
    """,
    "keys that tfreg has not": """
    a = tf.get_collection(tf.GraphKeys.SUMMARY_OP)  # left
    """,
    "import *": """
    from tensorflow.contrib.layers import *  # left
    """,
    "a loss of a training operation that is no function": """
    optimizer = tf.train.AdamOptimizer()
    slim.losses.softmax_cross_entropy(logits, labels)
    loss = slim.losses.get_total_loss()
    train_op = slim.learning.create_train_op(loss, optimizer)  # left
    """,
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_an_idiom_is_told_by_its_line_and_stays(idiom):
    source = HEAD + textwrap.dedent(IDIOMS[idiom])
    result = rewriting.rewrite(source.encode())
    lines = source.splitlines()
    wanted = [n for n, line in enumerate(lines, 1) if line.endswith("# left")]
    after = result.source.decode().splitlines()
    # The import is reported as long as something uses it: a stand-in is there.
    stays = 'slim = unported("tf.contrib.slim")' in after
    assert sorted({note.line for note in result.left}) == [2] * stays + wanted
    ast.parse(result.source)
    for note in result.left:
        assert note.text
        function = note.name.removesuffix("(...)")
        kept = [line for line in after if line.endswith("# left")]
        stand_in = note.name == "tf.contrib.slim"
        assert stand_in or any(function in line for line in kept)


@pytest.mark.parametrize("idiom", IDIOMS)
def test_a_second_run_changes_nothing_and_tells_the_same(idiom):
    source = HEAD + textwrap.dedent(IDIOMS[idiom])
    first = rewriting.rewrite(source.encode())
    second = rewriting.rewrite(first.source)
    assert second.source == first.source
    told = [note.name for note in first.left]
    again = [note.name for note in second.left]
    assert again == told
