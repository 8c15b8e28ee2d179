"""tfreg.porting rewrites TF1's names, in every way of importing them."""

import ast
import textwrap

import pytest

from tfreg.porting import rewriting


@pytest.fixture(scope="module")
def rewrite():
    """Returns a function: source -> new source, lines left, as text."""

    def run(source):
        result = rewriting.rewrite(textwrap.dedent(source).encode())
        again = rewriting.rewrite(result.source)
        assert again.source == result.source, "a second run changes something"
        ast.parse(result.source)
        left = [f"{note.line}: {note.name}: {note.text}" for note in result.left]
        return result.source.decode(), left

    return run


def check(rewrite, source, expected, left=()):
    got, told = rewrite(source)
    assert got == textwrap.dedent(expected)
    assert [line.split(": ")[:2] for line in told] == [
        line.split(": ") for line in left
    ]
    return told


TF = "import tensorflow as tf\n"
V1 = "import tensorflow.compat.v1 as tf\n"
TF1 = "from tfreg import tf1\n"
UNPORTED = "from tfreg.porting.stand_ins import unported\n"


@pytest.mark.parametrize(
    "lines, name",
    [
        ("import tensorflow.contrib.slim as slim", "slim.conv2d"),
        ("import tf_slim as slim", "slim.conv2d"),
        ("import tf_slim", "tf_slim.layers.conv2d"),
        ("import tensorflow.contrib.layers as layers", "layers.conv2d"),
        ("import tensorflow.contrib as tc", "tc.layers.conv2d"),
        ("import tensorflow.contrib.slim", "tensorflow.contrib.slim.conv2d"),
        ("from tensorflow.contrib import slim", "slim.conv2d"),
        ("from tensorflow.contrib import layers", "layers.conv2d"),
        ("from tensorflow.contrib import layers as contrib_layers",
         "contrib_layers.conv2d"),
        ("from tensorflow.contrib import slim as contrib_slim",
         "contrib_slim.conv2d"),
        ("from tensorflow import contrib", "contrib.slim.conv2d"),
        ("from tensorflow.contrib.layers import conv2d", "conv2d"),
        ("from tensorflow.contrib.layers import conv2d as conv", "conv"),
        ("from tensorflow.contrib.slim import (\n    conv2d,\n)", "conv2d"),
        ("from tf_slim import conv2d", "conv2d"),
        ("from tensorflow.contrib.layers.python.layers import layers as lib",
         "lib.conv2d"),
        ("from tensorflow.contrib.layers.python.layers.layers import conv2d",
         "conv2d"),
        ("from tf_slim.layers import layers as lib", "lib.conv2d"),
        ("try:\n    import tensorflow.contrib.slim as slim\nexcept ImportError:\n"
         "    import tf_slim as slim", "slim.conv2d"),
    ],
)  # fmt: skip
def test_every_way_of_importing_contrib_is_rewritten(rewrite, lines, name):
    got, left = rewrite(f"{lines}\n\ny = {name}(x, 8, [3, 3])\n")
    assert got.endswith("y = tf1.layers.conv2d(x, 8, [3, 3])\n")
    assert TF1 in got
    assert "contrib" not in got
    assert "slim" not in got
    assert not left


@pytest.mark.parametrize(
    "lines, name",
    [
        ("import tensorflow as tf", "tf.contrib.layers.conv2d"),
        ("import tensorflow as tf", "tf.contrib.slim.conv2d"),
        ("import tensorflow as tf\n\nslim = tf.contrib.slim", "slim.conv2d"),
        ("import tensorflow as tf\n\nlayers = tf.contrib.layers", "layers.conv2d"),
        ("import tensorflow", "tensorflow.contrib.layers.conv2d"),
    ],
)
def test_contrib_as_an_attribute_is_rewritten(rewrite, lines, name):
    got, left = rewrite(f"{lines}\n\ny = {name}(x, 8)\n")
    first = lines.splitlines()[0]
    assert got == f"{first}\n{TF1}\ny = tf1.layers.conv2d(x, 8)\n"
    assert not left


@pytest.mark.parametrize(
    "lines, prefix",
    [
        (TF, "tf."),
        (TF, "tf.compat.v1."),
        (V1, "tf."),
        ("from tensorflow import compat\n", "compat.v1."),
        ("from tensorflow.compat import v1\n", "v1."),
    ],
)
@pytest.mark.parametrize(
    "name, expected",
    [
        ("get_variable", "tf1.get_variable"),
        ("variable_scope", "tf1.variable_scope"),
        ("add_to_collection", "tf1.add_to_collection"),
        ("GraphKeys.WEIGHTS", "tf1.GraphKeys.WEIGHTS"),
        ("losses.Reduction.MEAN", "tf1.losses.Reduction.MEAN"),
        ("losses.get_total_loss", "tf1.losses.get_total_loss"),
        ("layers.dense", "tf1.core_layers.dense"),
        ("train.get_global_step", "tf1.get_or_create_global_step"),
        ("get_default_graph().get_collection", "tf1.get_collection"),
    ],
)
def test_core_names_are_rewritten_before_and_after_tf_upgrade_v2(
    rewrite, lines, prefix, name, expected
):
    got, left = rewrite(f"{lines}\nf({prefix}{name})\n")
    assert got == f"{lines}{TF1}\nf({expected})\n"
    assert not left


@pytest.mark.parametrize(
    "line, before, after",
    [
        ("from tf_slim.ops import arg_scope", "arg_scope.arg_scope", "tf1.arg_scope"),
        ("from tf_slim.ops.arg_scope import arg_scope", "arg_scope", "tf1.arg_scope"),
        (
            "from tensorflow.contrib.framework.python.ops import arg_scope",
            "arg_scope",
            "tf1.arg_scope",
        ),
        (
            "from tensorflow.contrib.layers.python.layers import regularizers",
            "regularizers.l2_regularizer",
            "tfreg.l2_regularizer",
        ),
        (
            "from tensorflow.contrib.framework.python.ops import variables as lib",
            "lib.model_variable",
            "tf1.model_variable",
        ),
        (
            "from tensorflow.python.ops import variable_scope",
            "variable_scope.variable_scope",
            "tf1.variable_scope",
        ),
        (
            "from tensorflow.python.framework import ops",
            "ops.add_to_collection",
            "tf1.add_to_collection",
        ),
        (
            "from tensorflow.python.ops.losses import losses",
            "losses.get_total_loss",
            "tf1.losses.get_total_loss",
        ),
    ],
)
def test_the_files_behind_the_names_are_known(rewrite, line, before, after):
    got, left = rewrite(f"{line}\nf = lambda: {before}(x)\n")
    assert got.splitlines()[-1] == f"f = lambda: {after}(x)"
    assert not left


def test_names_imported_one_by_one_are_rewritten(rewrite):
    source = """
    import numpy as np
    from tensorflow.contrib.layers import l2_regularizer as l2, xavier_initializer
    from tensorflow.compat.v1 import get_variable, placeholder_with_default

    def weights():  # as ever
        return get_variable("w", [2], initializer=xavier_initializer(),
                            regularizer=l2(1e-4))
    """
    expected = """
    import numpy as np
    from tensorflow.compat.v1 import placeholder_with_default
    import tfreg
    from tfreg import tf1

    def weights():  # as ever
        return tf1.get_variable("w", [2], initializer=tf1.xavier_initializer(),
                            regularizer=tfreg.l2_regularizer(1e-4))
    """
    check(rewrite, source, expected)


@pytest.mark.parametrize(
    "before, after",
    [
        ("tf.keras.regularizers.l2(0.5 * (wd))", "tfreg.l2_regularizer(wd)"),
        ("tf.keras.regularizers.l2(l=0.5 * (wd))", "tfreg.l2_regularizer(wd)"),
        ("tf.keras.regularizers.l2(l=0.5 * (a + b))", "tfreg.l2_regularizer(a + b)"),
        ("tf.keras.regularizers.l1(l=wd)", "tfreg.l1_regularizer(wd)"),
        ("tf.keras.regularizers.l2(0.01)", "tf.keras.regularizers.l2(0.01)"),
        ("tf.keras.regularizers.l2(0.5 * wd)", "tf.keras.regularizers.l2(0.5 * wd)"),
        ("tf.keras.regularizers.l1(0.01)", "tf.keras.regularizers.l1(0.01)"),
    ],
)
def test_the_half_that_tf_upgrade_v2_wrote_is_taken_back(rewrite, before, after):
    got, _ = rewrite(f"{TF}r = {before}\n")
    imported = "import tfreg\n" if before != after else ""
    assert got == f"{TF}{imported}r = {after}\n"


@pytest.mark.parametrize(
    "before, after",
    [
        ("tf.contrib.layers.l2_regularizer(0.1, 'x')", "tfreg.l2_regularizer(0.1)"),
        (
            "tf.contrib.layers.l1_l2_regularizer(scale_l1=1., scale_l2=.5, scope=s)",
            "tfreg.l1_l2_regularizer(scale_l1=1., scale_l2=.5)",
        ),
        (
            "tf.get_variable('w', [2], tf.float32, i, None, True, None, None, p, True)",
            "tf1.get_variable('w', [2], tf.float32, i, None, True, None)",
        ),
        (
            "tf.variable_scope('a', None, [x], i, r, None, None, None, True)",
            "tf1.variable_scope('a', None, [x], i, r, custom_getter=None, reuse=True)",
        ),
        (
            "tf.variable_scope('a', custom_getter=None, reuse=True)",
            "tf1.variable_scope('a', custom_getter=None, reuse=True)",
        ),
        ("tf.get_variable(**kw)", "tf1.get_variable(**kw)"),
        (
            "slim.losses.softmax_cross_entropy(logits, labels, 2.0)",
            "tf1.losses.softmax_cross_entropy("
            "logits=logits, onehot_labels=labels, weights=2.0)",
        ),
        (
            "tf.contrib.losses.cosine_distance(a, b, dim=1)",
            "tf1.losses.cosine_distance(predictions=a, labels=b, axis=1)",
        ),
        (
            "tf.losses.mean_squared_error(labels, predictions)",
            "tf1.losses.mean_squared_error(labels, predictions)",
        ),
        (
            "functools.partial(slim.l2_regularizer, scope='r')",
            "functools.partial(tfreg.l2_regularizer)",
        ),
        (
            "slim.arg_scope([slim.variable], device='/cpu:0', regularizer=r)",
            "tf1.arg_scope([tf1.variable], regularizer=r)",
        ),
    ],
)
def test_arguments_are_those_of_tfreg(rewrite, before, after):
    source = f"import functools\n{TF}import tf_slim as slim\n\nf = lambda: {before}\n"
    got, left = rewrite(source)
    assert got.splitlines()[-1] == f"f = lambda: {after}"
    assert not left


PENALTIES = "tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)"


@pytest.mark.parametrize(
    "before, after",
    [
        (f"loss + tf.add_n({PENALTIES})", "loss"),
        (f"tf.add_n({PENALTIES}) + loss", "loss"),
        (f"a + tf.add_n({PENALTIES}) + b", "a + b"),
        (f"loss + sum({PENALTIES})", "loss"),
        (f"loss + tf.reduce_sum({PENALTIES})", "loss"),
        (f"tf.add_n([loss] + {PENALTIES})", "loss"),
        (f"tf.add_n({PENALTIES} + [loss])", "loss"),
        (f"tf.add(loss, tf.add_n({PENALTIES}))", "loss"),
        ("loss + tf.losses.get_regularization_loss()", "loss"),
        ("tf.reduce_mean(x) + tf.add_n(tf.losses.get_regularization_losses())",
         "tf.reduce_mean(x)"),
        ("loss + tf.add_n(tf.get_collection('regularization_losses'))", "loss"),
    ],
)  # fmt: skip
def test_the_sum_with_all_penalties_becomes_total_loss(rewrite, before, after):
    got, left = rewrite(f"{TF}y = {before}\n")
    assert got.splitlines()[-1] == f"y = tf1.losses.total_loss({after})"
    assert not left


def test_penalties_kept_in_a_variable_become_total_loss(rewrite):
    source = f"""
    import tensorflow as tf
    def f(loss, loss2):
        penalties = {PENALTIES}
        penalty = tf.add_n(penalties)
        total = loss + penalty
        loss2 += tf.add_n(penalties)
        return total, loss2
    """
    got, _ = rewrite(source)
    assert "total = tf1.losses.total_loss(loss)\n" in got
    assert "loss2 = tf1.losses.total_loss(loss2)\n" in got


@pytest.mark.parametrize(
    "kept",
    [
        "0.5 * tf.add_n(kept)",
        "loss - tf.add_n(kept)",
        "loss + tf.add_n(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES, 'a'))",
        "loss + tf.losses.get_regularization_loss(scope='a')",
    ],
)
def test_a_part_or_a_multiple_of_the_penalties_stays_a_sum(rewrite, kept):
    got, _ = rewrite(f"{TF}kept = {PENALTIES}\ny = {kept}\n")
    assert "total_loss" not in got


@pytest.mark.parametrize(
    "between",
    [
        "y = tf.layers.dense(y, 3)",
        "y = tf.contrib.layers.conv2d(y, 3, 3)",
        "y = net(y)",
        "y = self.net(y)",
    ],
)
def test_penalties_that_were_read_before_others_were_made_stay_a_sum(rewrite, between):
    source = f"""
    import tensorflow as tf
    def inner(y):
        return tf.get_variable("w", [2]) * y
    def net(y):
        return inner(y)
    def f(self, y):
        kept = {PENALTIES}
        {between}
        return tf.reduce_mean(y) + tf.add_n(kept)
    """
    got, _ = rewrite(source)
    assert "return tf.reduce_mean(y) + tf.add_n(kept)" in got
    got, _ = rewrite(source.replace(between, "y = tf.nn.relu(other(y))"))
    assert "return tf1.losses.total_loss(tf.reduce_mean(y))" in got


def test_a_total_is_not_put_into_another(rewrite):
    got, _ = rewrite(
        f"{TF}loss = tf.losses.get_total_loss(False)\n"
        "loss2 = loss + tf.losses.get_regularization_loss()\n"
        "loss3 = tf.losses.get_total_loss() + tf.losses.get_regularization_loss()\n"
    )
    assert "total_loss(loss)" not in got
    assert "total_loss(tf1" not in got


def test_the_sum_of_the_losses_collection_becomes_get_total_loss(rewrite):
    source = """
    import tensorflow as tf
    def tower_loss(scope):
        losses = tf.get_collection('losses', scope)
        total_loss = tf.add_n(losses, name='total_loss')
        return total_loss, tf.add_n(tf.get_collection(tf.GraphKeys.LOSSES))
    """
    expected = """
    import tensorflow as tf
    from tfreg import tf1
    def tower_loss(scope):
        losses = tf1.get_collection('losses', scope)
        total_loss = tf1.losses.get_total_loss(add_regularization_losses=False, \
scope=scope, name='total_loss')
        return total_loss, tf1.losses.get_total_loss(add_regularization_losses=False)
    """
    check(rewrite, source, expected)


def test_a_training_operation_becomes_a_step(rewrite):
    source = """
    import tensorflow as tf
    import tf_slim as slim

    def make(images, labels, rate=0.1):
        optimizer = tf.train.MomentumOptimizer(rate, 0.9)
        # The loss.
        loss = loss_fn(images, labels)
        return slim.learning.create_train_op(loss, optimizer, clip_gradient_norm=4.)

    def make_nested(images, labels):
        logits = net(images, is_training=True)
        return tf.train.GradientDescentOptimizer(0.1).minimize(
            loss_fn(logits, labels), var_list=tf.trainable_variables())
    """
    expected = """
    import tensorflow as tf
    from tfreg import tf1

    def make(images, labels, rate=0.1):
        optimizer = tf.compat.v1.train.MomentumOptimizer(rate, 0.9)
        # The loss.
        return tf1.create_train_op(tf1.Model(loss_fn), optimizer, \
clip_gradient_norm=4.)

    def make_nested(images, labels):
        return tf1.create_train_op(
            tf1.Model(lambda images, labels: loss_fn(net(images, is_training=True), \
labels)), tf.compat.v1.train.GradientDescentOptimizer(0.1), global_step=None, \
check_numerics=False)
    """
    check(rewrite, source, expected)


@pytest.mark.parametrize(
    "loss, expected",
    [
        ("f(x, tf.estimator.ModeKeys.TRAIN)", 'f(x, "train")'),
        ("f(x, tf.AUTO_REUSE, tf.nn.relu)", "f(x, tf1.AUTO_REUSE, tf.nn.relu)"),
        ("f(tf.log(x), 2, 'a')", "f(tf.compat.v1.log(x), 2, 'a')"),
        ("f(x) + 2 * g(x)", "f(x) + 2 * g(x)"),
        (f"f(x) + tf.add_n({PENALTIES})", "tf1.losses.total_loss(f(x))"),
        (f"f(x) + tf.add_n({PENALTIES}) + 1", "tf1.losses.total_loss(f(x) + 1)"),
        (f"tf.add_n([f(x)] + {PENALTIES})", "tf1.losses.total_loss(f(x))"),
        (
            "f(x, tf.contrib.layers.l2_regularizer(G, 'scope'))",
            "f(x, tfreg.l2_regularizer(G))",
        ),
        (
            "tf.losses.log_loss(x, tf.contrib.layers.flatten(f(x)))",
            "tf1.losses.log_loss(x, tf1.layers.flatten(f(x)))",
        ),
    ],
)
def test_what_a_training_operation_holds_is_rewritten_too(rewrite, loss, expected):
    got, _ = rewrite(
        f"{TF}opt = tf.train.AdamOptimizer()\n"
        f"def make(x):\n    z = {loss}\n    return opt.minimize(z)\n"
    )
    assert f"tf1.create_train_op(tf1.Model(lambda x: {expected}), opt, " in got


@pytest.mark.parametrize("parameters", ["*x", "**x"])
def test_a_batch_of_any_length_is_left(rewrite, parameters):
    source = f"{TF}def make({parameters}):\n    return tf.train.AdamOptimizer()"
    got, left = rewrite(f"{source}.minimize(f(x))\n")
    assert "create_train_op" not in got
    assert len(left) == 1


def test_what_is_called_is_not_of_the_batch(rewrite):
    source = """
    import tensorflow as tf
    class Trainer:
        def make(self, x, model):
            return tf.train.AdamOptimizer().minimize(self.loss(model.net(x), self.wd))
    """
    got, _ = rewrite(source)
    assert "tf1.Model(lambda x: self.loss(model.net(x), self.wd))" in got


def test_variables_are_listed_when_the_step_runs(rewrite):
    source = """
    import tensorflow as tf
    import tf_slim as slim
    def make(x, opt):
        return slim.learning.create_train_op(f(x), opt, variables_to_train=\
tf.trainable_variables('top'), update_ops=tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    """
    expected = """
    import tensorflow as tf
    from tfreg import tf1
    def make(x, opt):
        return tf1.create_train_op(tf1.Model(f), opt, variables_to_train=\
lambda: tf1.trainable_variables('top'))
    """
    check(rewrite, source, expected)


@pytest.mark.parametrize(
    "body",
    [
        # The loss is used elsewhere, is no call, or depends on more than the batch.
        "loss = f(x)\n    return loss, opt.minimize(loss)",
        "while x:\n     g(loss)\n     loss = f(x)\n    return opt.minimize(loss)",
        "loss = tf.losses.get_total_loss()\n    return opt.minimize(loss)",
        "z = g(x)\n    loss = f(z)\n    h(z)\n    return opt.minimize(loss)",
        "v = tf.trainable_variables('a')\n    return opt.minimize(f(x), var_list=v)",
        "return opt.minimize(f(x), grad_loss=x)",
        "return opt.minimize(tf.add(f(x), tf.losses.get_total_loss()))",
        "l = tf.losses.get_total_loss()\n    return opt.minimize(tf.add(f(x), l))",
        "return f'{opt.minimize(f(x))}'",
        "return opt.minimize(loss)",
        "return opt.minimize(x)",
    ],
)
def test_a_training_operation_that_is_no_function_of_the_batch_is_left(rewrite, body):
    source = f"{TF}def make(x):\n    opt = tf.train.AdamOptimizer()\n    {body}\n"
    got, left = rewrite(source)
    assert "create_train_op" not in got
    assert "minimize(" in got
    line = source.splitlines().index(f"    {body.splitlines()[-1].strip()}") + 1
    assert left[0].startswith(f"{line}: opt.minimize(...): ")


@pytest.mark.parametrize(
    "source",
    [
        "def f(slim, tf):\n    return slim.conv2d(tf.get_variable('a'))\n",
        "import slim\nimport layers\ny = slim.conv2d(x) + layers.l2_regularizer(1)\n",
        "from .tensorflow import contrib\ny = contrib.layers.conv2d(x)\n",
        "import tensorflow as tf\n\n\ndef f(x):\n    return tf.nn.dropout(x, 0.5)\n",
        "from scipy import optimize\nimport tensorflow\noptimize.minimize(f, x)\n",
        "import tensorflow as tf\nif x:\n    tf = y\ntf.get_variable('a')\n",
        "s = 'import tensorflow.contrib.slim as slim'\n",
        "import tensorflow as tf\nwith tf.name_scope('a'): pass\n",
        "import tensorflow as tf\r\nx = (1,\r\n)\r\n",
        "",
    ],
)
def test_what_is_not_tf1_stays(rewrite, source):
    got, left = rewrite(source)
    assert got == source
    assert not left


def test_a_name_that_is_taken_gets_another(rewrite):
    source = """
    import tensorflow.compat.v1 as tf1
    def f(tfreg):
        return tf1.get_variable("a", regularizer=tf1.contrib.layers.l2_regularizer(1.))
    """
    expected = """
    import tensorflow.compat.v1 as tf1
    import tfreg as tfreg_
    from tfreg import tf1 as tfreg_tf1
    def f(tfreg):
        return tfreg_tf1.get_variable("a", regularizer=tfreg_.l2_regularizer(1.))
    """
    check(rewrite, source, expected)


def test_what_tfreg_is_called_in_the_file_is_kept(rewrite):
    got, _ = rewrite(f"{TF}from tfreg import tf1 as old\nx = tf.get_variable('x')\n")
    assert got == f"{TF}from tfreg import tf1 as old\nx = old.get_variable('x')\n"


def test_what_tensorflow_2_renamed_is_called_by_its_old_name(rewrite):
    source = """
    import tensorflow as tf
    x = tf.log(tf.reduce_sum(x, keep_dims=True))
    o = tf.train.AdamOptimizer(1e-3)
    with tf.name_scope(None, 'tower', [x]): pass
    """
    expected = """
    import tensorflow as tf
    x = tf.compat.v1.log(tf.compat.v1.reduce_sum(x, keep_dims=True))
    o = tf.compat.v1.train.AdamOptimizer(1e-3)
    with tf.compat.v1.name_scope(None, 'tower', [x]): pass
    """
    check(rewrite, source, expected)


def test_modes_of_an_estimator_are_the_text_that_they_are(rewrite):
    got, left = rewrite(
        f"{TF}x = tf.estimator.ModeKeys.TRAIN\n"
        'y = f"{tf.estimator.ModeKeys.EVAL}"\n'
        "z = f'{tf.estimator.ModeKeys.PREDICT}'\n"
    )
    code = 'x = "train"\ny = f"{\'eval\'}"\nz = f\'{"infer"}\'\n'
    assert got == TF + code
    assert not left


def test_formatting_and_comments_stay(rewrite):
    source = """\
    #!/usr/bin/env python
    # Copyright

    '''The docstring.'''
    from __future__ import print_function

    # Theirs.
    import tensorflow  as  tf   # TF
    import tensorflow.contrib.slim as slim  # slim's


    def net( x ):
        with slim.arg_scope([slim.conv2d,   # every one
                             slim.fully_connected],
                            weights_regularizer = slim.l2_regularizer( 1e-4 ) ) :
            return slim.conv2d(x, 8, [3,3])   ;  # done
    """
    expected = """\
    #!/usr/bin/env python
    # Copyright

    '''The docstring.'''
    from __future__ import print_function

    # Theirs.
    import tensorflow  as  tf   # TF
    import tfreg
    from tfreg import tf1
    # slim's


    def net( x ):
        with tf1.arg_scope([tf1.layers.conv2d,   # every one
                             tf1.layers.fully_connected],
                            weights_regularizer = tfreg.l2_regularizer( 1e-4 ) ) :
            return tf1.layers.conv2d(x, 8, [3,3])   ;  # done
    """
    check(rewrite, source, expected)


def test_aliases_of_aliases_go_with_the_import(rewrite):
    source = """
    import tensorflow as tf
    import tensorflow.contrib as tc
    layers = tc.layers
    lib = layers
    x = lib.conv2d(x)
    """
    expected = """
    import tensorflow as tf
    from tfreg import tf1
    x = tf1.layers.conv2d(x)
    """
    check(rewrite, source, expected)


@pytest.mark.parametrize(
    "line", ["slim = tf.contrib.slim", "import tensorflow.contrib.slim as slim"]
)
def test_what_is_used_before_it_is_bound_gets_a_stand_in(rewrite, line):
    source = f"{TF}for i in range(2):\n    if i: slim.unknown(x)\n    {line}\n"
    got, left = rewrite(source)
    assert got == UNPORTED + source.replace(line, 'slim = unported("tf.contrib.slim")')
    assert any(told.startswith("3: slim.unknown") for told in left)


def test_only_what_is_unused_goes_of_an_import(rewrite):
    source = """
    import os, tensorflow.contrib.slim as slim
    from tensorflow.compat.v1 import (
        get_variable,  # mine
        placeholder_with_default as default,
    )
    if True: import tf_slim
    x = lambda: slim.flatten(get_variable(default))
    """
    expected = """
    import os
    from tensorflow.compat.v1 import (
        placeholder_with_default as default,
    )
    from tfreg import tf1
    if True: pass
    x = lambda: tf1.layers.flatten(tf1.get_variable(default))
    """
    check(rewrite, source, expected, ["8: default"])


def test_the_comments_of_an_import_that_goes_stay(rewrite):
    source = """
    def f():
        # First.
        import tf_slim as slim  # second
        x = 1
        # third
        from tf_slim import conv2d
    # Fourth.
    import tf_slim  # fifth
    """
    expected = """
    def f():
        # First.
        # second
        x = 1
        # third
    # Fourth.
    # fifth
    """
    check(rewrite, source, expected)


def test_an_import_that_something_uses_gets_a_stand_in(rewrite):
    source = "import tf_slim as slim\ny = slim.conv2d(x)\nz = slim.unknown(y)\n"
    expected = (
        f'{UNPORTED}slim = unported("tf.contrib.slim")\n'
        f"y = tf1.layers.conv2d(x)\nz = slim.unknown(y)\n"
    ).replace("slim = ", f"{TF1}slim = ", 1)
    check(rewrite, source, expected, ["1: tf.contrib.slim", "3: slim.unknown"])


def test_what_a_dropped_argument_kept_from_being_understood_is_ported(rewrite):
    check(
        rewrite,
        """\
        import tensorflow as tf
        from tensorflow.contrib import slim
        def f(x, y, optimizer):
            loss = tf.losses.mean_squared_error(y, x)
            penalty = slim.l2_regularizer(0.1, scope=loss.name)
            return slim.learning.create_train_op(loss, optimizer), penalty
        """,
        """\
        import tensorflow as tf
        import tfreg
        from tfreg import tf1
        def f(x, y, optimizer):
            penalty = tfreg.l2_regularizer(0.1)
            return tf1.create_train_op(tf1.Model(lambda x, y: \
tf1.losses.mean_squared_error(y, x)), optimizer), penalty
        """,
    )
