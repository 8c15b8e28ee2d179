"""The port of any Python file parses, and code that isn't TF1 is unchanged."""

import ast
import pathlib
import sysconfig

import hypothesis
import hypothesmith
import pytest
from hypothesis import strategies as st

from tfreg.porting import rewriting

STDLIB = sorted(
    path
    for path in pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")
    if path.stat().st_size < 10_000
)
# Something to rewrite, so that the whole file is parsed and written again.
TAIL = "\nimport tensorflow as tf_\nlog = tf_.log\n"
PORTED_TAIL = "\nimport tensorflow as tf_\nlog = tf_.compat.v1.log\n"

IMPORTS = [
    "import tensorflow as tf, tensorflow.contrib.slim as slim",
    "import tensorflow as tf\nimport tf_slim as slim",
    "import tensorflow as tf\nslim = tf.contrib.slim",
    "import tensorflow as tf; from tensorflow.contrib import slim",
    "import tensorflow.compat.v1 as tf\nimport tensorflow.contrib.slim as slim",
    "try:\n    import tensorflow as tf\n    import tf_slim as slim\nfinally: pass",
    "import tensorflow as tf\nif tf:\n    from tensorflow.contrib import slim  # here",
    "import tensorflow as tf\ndef slim(): pass",
    "import numpy as tf\nimport tf_slim as slim",
]
FUNCTIONS = """slim.conv2d slim.l2_regularizer slim.losses.hinge_loss tf.get_variable
tf.variable_scope tf.add_to_collection tf.get_collection tf.losses.log_loss tf.add_n sum
tf.layers.dense slim.arg_scope functools.partial tf.log tf.reduce_sum tf.placeholder
tf.keras.regularizers.l2 tf.keras.regularizers.l1 tf.train.AdamOptimizer(0.1).minimize
slim.learning.create_train_op tf.control_dependencies tf.while_loop tf.name_scope
tf.get_default_graph().get_collection slim.unknown print np.sum"""
VALUES = """x 0.1 'losses' None tf.GraphKeys.REGULARIZATION_LOSSES tf.AUTO_REUSE
tf.GraphKeys.LOSSES tf.GraphKeys.UPDATE_OPS slim slim.conv2d (0.5*(x)) 0.5*(x)
[slim.conv2d,slim.flatten] [x]+tf.get_collection('regularization_losses')
(y:=slim) {**x} f'{slim.conv2d}' (lambda:slim.flatten(x)) (x,) -x"""
KEYWORDS = """regularizer scope custom_getter l scale name keep_dims var_list
total_loss loss labels dim device reuse"""


def calls(inner):
    """Returns a strategy of calls with any arguments that Python allows."""
    positional = st.lists(inner | st.just("*x"), max_size=3)
    keyword = st.lists(
        st.tuples(st.sampled_from(KEYWORDS.split()), inner),
        max_size=2,
        unique_by=lambda p: p[0],
    )
    separator = st.sampled_from([", ", ",", ",\n  ", ", # a comment\n"])

    def build(function, args, keywords, between, end):
        words = [*args, *(f"{word}={value}" for word, value in keywords)]
        return f"{function}({between.join(words)}{end if words else ''})"

    ends = st.sampled_from(["", ",", " # the end\n"])
    return st.builds(
        build, st.sampled_from(FUNCTIONS.split()), positional, keyword, separator, ends
    )


values = st.recursive(
    st.sampled_from(VALUES.split()),
    lambda inner: calls(inner) | st.builds("{} + {}".format, inner, inner),
    max_leaves=6,
)


def indent(text):
    return "\n".join(f"    {line}" for line in text.splitlines())


statements = st.recursive(
    st.one_of(
        values,
        st.builds("x = {}  # kept".format, values),
        st.builds("loss += {}".format, values),
        st.builds("slim = {}".format, values),
        st.builds("global slim; y = {}; z = 1".format, values),
    ),
    lambda inner: st.one_of(
        st.builds("{}\n{}".format, inner, inner),
        st.builds(
            "{}\n{}".format,
            st.sampled_from(
                ["if x:", "def f(x, slim=1, *a, **k):", "class A:", "try:"]
            ),
            inner.map(indent),
        ).map(lambda t: t + "\nfinally: pass" if t.startswith("try") else t),
        st.builds("with {} as z:\n{}".format, values, inner.map(indent)),
        st.builds("with slim.arg_scope([x]):\n    # why\n{}".format, inner.map(indent)),
    ),
    max_leaves=6,
)


def is_python(source):
    try:
        compile(source, "x", "exec", ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@hypothesis.settings(max_examples=50)
@hypothesis.given(st.sampled_from(IMPORTS), statements)
def test_a_port_of_tf1_parses_and_is_complete(imports, body):
    source = f"{imports}\n{body}\n"
    hypothesis.assume(is_python(source))
    result = rewriting.rewrite(source.encode())
    ast.parse(result.source)
    again = rewriting.rewrite(result.source)
    assert again.source == result.source
    assert not again.changes
    assert (result.source == source.encode()) == (not result.changes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@hypothesis.settings(max_examples=20)
@hypothesis.given(hypothesmith.from_grammar())
def test_a_port_of_anything_parses_and_stays_as_it_is(source):
    hypothesis.assume(is_python(source + TAIL))
    check_untouched(source)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@hypothesis.settings(max_examples=4)
@hypothesis.given(st.sampled_from(STDLIB))
def test_pythons_own_library_stays_as_it_is(path):
    check_untouched(path.read_text(encoding="utf-8"))


def check_untouched(source):
    result = rewriting.rewrite((source + TAIL).encode())
    assert result.source.decode() == source + PORTED_TAIL
    assert not result.left
    assert rewriting.rewrite(source.encode()).source == source.encode()
