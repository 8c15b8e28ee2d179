"""A pytest plugin that puts tfreg's functions in the place of slim's.

    python -m pytest -p slim_shim .../tf_slim/layers/regularizers_test.py

What tfreg has no counterpart for, the names of operations in a graph, is added here.
"""

import functools

import tensorflow as tf
from tf_slim.layers import regularizers
from tf_slim.ops import arg_scope

from tfreg import tf1
from tfreg.tf1 import arg_scopes

REGULARIZERS = ("l1_regularizer", "l2_regularizer", "l1_l2_regularizer")


def name_penalty(factory):
    """Returns a factory with contrib's `scope`, which names the operation."""

    def make(*args, scope=None, **kwargs):
        regularizer = factory(*args, **kwargs)

        def penalize(weights):
            penalty = regularizer(weights)
            name = scope or factory.__name__
            return None if penalty is None else tf.identity(penalty, name)

        return penalize

    return functools.wraps(factory)(make)


for name in REGULARIZERS:
    setattr(regularizers, name, name_penalty(getattr(tf1, name)))
for name in ("sum_regularizer", "apply_regularization"):
    setattr(regularizers, name, getattr(tf1, name))
for name in arg_scope.__all__:
    setattr(arg_scope, name, getattr(arg_scopes, name))


def pytest_collection_finish(session):
    """Fails where a module of tests took slim's function before this one came."""
    modules = {item.module for item in session.items}
    taken = [vars(m)["arg_scope"] for m in modules if "arg_scope" in vars(m)]
    assert all(function is tf1.arg_scope for function in taken), taken
