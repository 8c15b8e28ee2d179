"""tfreg.porting's table has TF1's true signatures, and targets that exist in tfreg."""

import functools
import inspect
import re

import pytest
import tensorflow as tf
import tf_slim
from tensorflow.python.keras.layers.legacy_rnn import rnn_cell_impl
from tensorflow.python.keras.legacy_tf_layers import convolutional, core, pooling

import tfreg
from tfreg import tf1
from tfreg.porting import names, renamed, versions

# tf.layers itself, which tf.compat.v1 hides where Keras is 3.
LAYERS = (core, convolutional, pooling)

FORMS = {name: entry for name, entry in versions.FORMS.items() if entry}
ENTRIES = {**names.TABLE, **names.CREATE_TRAIN_OP, **FORMS}


def find_old(name):
    """Returns TF1's object for a normal name, with tf_slim for contrib."""
    first, *parts = name.split(".")
    if name.startswith("tf.layers."):
        found = [getattr(m, parts[-1], None) for m in LAYERS]
        return next(filter(None, found), None)
    if name.startswith("tf.get_default_graph()"):
        return functools.partial(getattr(tf.Graph, parts[-1]), None)
    if ".rnn" in name:  # tf.compat.v1 hides the cells, too.
        return getattr(rnn_cell_impl, parts[-1], getattr(tf.compat.v1.nn, parts[-1], 0))
    root = tf.compat.v1 if first == "tf" else tf_slim
    return functools.reduce(lambda o, p: getattr(o, p, None), parts, root)


def find_new(target):
    first, *parts = target.split(".")
    return functools.reduce(getattr, parts, {"tfreg": tfreg, "tf1": tf1}[first])


def list_parameters(function):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    if isinstance(function, type):
        function = functools.partial(function.__init__, None)
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind not in kinds]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_target_takes_what_is_handed_on(name):
    entry = ENTRIES[name]
    old, new = find_old(name), find_new(entry.target)
    new = getattr(new, "func", new)  # relu is a partial of fully_connected.
    if not callable(new) or inspect.isclass(new):
        return
    accepted = {p.name: p for p in list_parameters(new)}
    gone = entry.dropped | entry.refused
    if entry.arguments:
        given = [dict(entry.renamed).get(a, a) for a in entry.arguments]
        given = list(dict.fromkeys(a for a in given if a not in gone))
    else:
        given = [p.name for p in list_parameters(old)]
    if name == "tf.no_regularizer":  # Nobody calls it, and by keyword less.
        return
    assert set(given) <= set(accepted)
    ordered = [
        p.name for p in accepted.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]  # fmt: skip
    if not entry.by_keyword:
        # What comes before a dropped argument may be given by position.
        first = next(
            (i for i, a in enumerate(entry.arguments) if a in gone), len(given)
        )
        assert given[:first] == ordered[: len(given[:first])]


LISTED = [n for n in ENTRIES if ENTRIES[n].arguments and find_old(n) is not None]


@pytest.mark.parametrize("name", LISTED)
def test_an_entry_lists_tf1s_arguments_in_their_order(name):
    old = find_old(name)
    assert list(ENTRIES[name].arguments) == [p.name for p in list_parameters(old)]


def test_what_goes_under_compat_v1_is_there_and_not_in_tensorflow_2():
    for name in renamed.NAMES:
        parts = name.split(".")[1:]
        found = functools.reduce(getattr, parts, tf.compat.v1)
        assert found is not None
        holder = functools.reduce(getattr, parts[:-1], tf)
        assert not hasattr(holder, parts[-1]), name


@pytest.mark.parametrize(
    "module",
    ["", "nn", "train", "image", "random", "metrics", "losses", "initializers"],
)
def test_whatever_tensorflow_2_has_no_more_is_known(module):
    old, new = (
        functools.reduce(getattr, filter(None, [module]), root)
        for root in (tf.compat.v1, tf)
    )
    gone = {n for n in dir(old) if not n.startswith("_") and not hasattr(new, n)}
    full = {f"tf.{module}.{name}".replace("..", ".") for name in gone}
    known = {*names.TABLE, *renamed.NAMES, *names.MODULES, "tf.nn.rnn_cell"}
    assert {n for n in full - known if names.find_advice(n) is None} == set()


def test_what_is_to_be_written_by_hand_is_there():
    advice = " ".join(text for _, text in names.BY_HAND)
    written = re.findall(r"\b((?:tfreg|tf1)\.[\w.]*\w|tf\.[\w.]*\w)", advice)
    assert len(written) > 15
    for name in written:
        first, *parts = name.split(".")
        functools.reduce(getattr, parts, {"tfreg": tfreg, "tf1": tf1, "tf": tf}[first])
