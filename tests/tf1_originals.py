"""TensorFlow 1 for tests: tf.compat.v1, with tf_slim in contrib's place.

    script = load(source)  # as TF1 would have imported it

What Keras 3 took from tf.compat.v1 is made up for: tf.layers by TensorFlow's own copy,
tf.keras.regularizers and tf.estimator by what they computed and held.
"""

import collections
import contextlib
import sys
import types
import warnings
from unittest import mock

import tensorflow as tf
import tf_slim
from tensorflow.python.keras.layers.legacy_rnn import rnn_cell_impl
from tensorflow.python.keras.legacy_tf_layers import convolutional, core, pooling

v1 = tf.compat.v1

Spec = collections.namedtuple("EstimatorSpec", "mode loss train_op", defaults=(None,))


class _Module(types.ModuleType):
    """A module that looks names up in others where it hasn't them itself."""

    def __init__(self, name, *others, **members):
        super().__init__(name)
        self.__dict__.update(members)
        self._others = others
        self.__path__ = []

    def __getattr__(self, name):
        for other in self._others:
            if hasattr(other, name):
                return getattr(other, name)
        raise AttributeError(f"{self.__name__} has no {name}")


class _Cells:
    rnn_cell = rnn_cell_impl


def batch_normalization(
    x, momentum=0.99, epsilon=1e-3, training=False, renorm=False, name=None, fused=None
):
    """Computes what tf.layers did, of which Keras 3 has taken the class."""
    size = [x.shape[-1]]
    with v1.variable_scope(name, "batch_normalization"):
        gamma = v1.get_variable("gamma", size, initializer=v1.ones_initializer())
        beta = v1.get_variable("beta", size, initializer=v1.zeros_initializer())
        mean, variance = (
            v1.get_variable(name, size, initializer=start(), trainable=False)
            for name, start in [
                ("moving_mean", v1.zeros_initializer),
                ("moving_variance", v1.ones_initializer),
            ]
        )
        if x.shape.rank == 4 and fused is not False:
            x, *moments = v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
        else:
            moments = tf.nn.moments(x, list(range(x.shape.rank - 1)))
            x = tf.nn.batch_normalization(x, *moments, beta, gamma, epsilon)
        for average, value in zip((mean, variance), moments, strict=False):
            moved = average.assign_sub((1 - momentum) * (average - value))
            v1.add_to_collection("update_ops", moved)
        return x


def _make_modules():
    layers = _Module("tensorflow.contrib.layers", tf_slim, tf_slim.layers)
    framework = _Module("tensorflow.contrib.framework", tf_slim)
    learning = _Module("tensorflow.contrib.slim.learning", tf_slim.learning)
    slim = _Module("tensorflow.contrib.slim", tf_slim, learning=learning)
    losses = _Module("tensorflow.contrib.losses", tf_slim.losses)
    contrib = _Module(
        "tensorflow.contrib",
        layers=layers,
        framework=framework,
        slim=slim,
        losses=losses,
        rnn=_Module("tensorflow.contrib.rnn", rnn_cell_impl, v1.nn),
    )
    regularizers = _Module(
        "tensorflow.keras.regularizers",
        # Keras 2's, in which the argument was called l.
        l1=lambda l: lambda w: l * tf.reduce_sum(tf.abs(w)),  # noqa: E741
        l2=lambda l: lambda w: l * tf.reduce_sum(tf.square(w)),  # noqa: E741
    )
    modes = types.SimpleNamespace(TRAIN="train", EVAL="eval", PREDICT="infer")
    tensorflow = _Module(
        "tensorflow",
        tf.compat.v1,
        compat=types.SimpleNamespace(v1=tf.compat.v1),
        contrib=contrib,
        estimator=types.SimpleNamespace(ModeKeys=modes, EstimatorSpec=Spec),
        keras=types.SimpleNamespace(regularizers=regularizers),
        layers=_Module(
            "tensorflow.layers",
            core,
            convolutional,
            pooling,
            batch_normalization=batch_normalization,
        ),
        nn=_Module("tensorflow.nn", _Cells, v1.nn),
    )
    several = [tensorflow, contrib, layers, framework, slim, losses]
    return {module.__name__: module for module in several}


_MODULES = _make_modules()


@contextlib.contextmanager
def graph():
    """Makes the block a graph of its own."""
    with tf.Graph().as_default(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of all that is deprecated.
        yield


def load(source, name="original"):
    """Returns a TF1 script as a module."""
    script = types.ModuleType(name)
    with mock.patch.dict(sys.modules, _MODULES):
        exec(compile(source, name, "exec"), script.__dict__)
    return script
