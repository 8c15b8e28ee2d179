"""Rules: their text form, what they match, and the penalties that they give."""

import re
import warnings

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import layers, models, rules
from tfreg.layers import base, normalization

# NAME must be ALLOWED, got VALUE: DO THIS.
HOUSE = re.compile(r".+ (must|cannot) .+, got .+: .+", re.DOTALL)
FORM = "REGULARIZER(SCALE[,SCALE][,by=COUPLING])@TARGET[:PATTERN]"


def get_terms():
    return [term.name for term in tfreg.get_default_store().get_terms()]


def get_penalties():
    return {p.name: float(p.value) for p in tfreg.get_default_store().get_penalties()}


def apply(text, module):
    rules.apply(rules.parse(text), module)


# The text form

scales = st.floats(0, allow_nan=False, allow_infinity=False)
patterns = st.one_of(
    st.text("ab_01.*+?|()[]{}\\^$:@,; \n\t-=é", min_size=1, max_size=12),
    st.sampled_from(["dense_0", "dense_.*", r"(conv2d|dense)_\d", "a:b@c(1)", r"\x3b"]),
)


@st.composite
def valid_rules(draw):
    name = draw(st.sampled_from(["l1", "l2", "l1_l2"]))
    count = 2 if name == "l1_l2" else 1
    values = tuple(draw(scales) for _ in range(count))
    target = draw(st.sampled_from(["kernel", "bias", "activity"]))
    try:
        return rules.Rule(name, values, target, draw(st.none() | patterns))
    except ValueError as error:
        assert HOUSE.fullmatch(str(error)) and "pattern" in str(error)
        hypothesis.reject()


@hypothesis.given(st.lists(valid_rules(), min_size=1, max_size=3), st.data())
def test_the_text_of_rules_reads_back_equal(found, data):
    spaces = [data.draw(st.sampled_from(["", " ", "\n "])) for _ in found]
    text = ";".join(f"{s}{rule}{s}" for s, rule in zip(spaces, found, strict=True))
    assert rules.parse(text) == tuple(found)


tokens = [
    *"@:;,()",
    " ",
    "l2",
    "l1_l2",
    "l3",
    "kernel",
    "activity",
    "1e-4",
    "0.0",
    "nan",
]
tokens += ["-1", "inf", "1", "dense_.*", "(", "*", "[[a]", "l2(0.1)@kernel", "1_0", "é"]


@hypothesis.given(st.lists(st.sampled_from(tokens), max_size=8).map("".join))
@hypothesis.settings(max_examples=500)
def test_any_text_is_read_or_refused_in_the_houses_form(text):
    try:
        found = rules.parse(text)
    except ValueError as error:
        assert HOUSE.fullmatch(str(error))
    else:
        assert rules.parse(";".join(map(str, found))) == found


def test_a_text_is_read_as_it_says():
    found = rules.parse(" l2(1e-4)@kernel ; l1_l2( 1e-5, 2 )@activity: dense_[0-9]+")
    assert found == (
        rules.Rule("l2", (1e-4,), "kernel"),
        rules.Rule("l1_l2", (1e-5, 2.0), "activity", "dense_[0-9]+"),
    )
    assert [str(rule) for rule in found] == [
        "l2(0.0001)@kernel",
        "l1_l2(1e-05,2.0)@activity:dense_[0-9]+",
    ]
    # Every digit, not six of them.
    assert str(rules.parse("l2(1.23456789e-4)@bias")[0]) == "l2(0.000123456789)@bias"


def in_form(part):
    return (
        f"a rule must have the form {FORM}, got {part!r}: "
        "write for example l2(1e-4)@kernel:dense_0"
    )


NOT_FINITE = "scale must be a finite float >= 0, got {}: write 0.0 for no penalty"
MALFORMED = {
    text: in_form(text)
    for text in (
        "",
        "l2",
        "l2(1e-4)",
        "l2(1e-4)@",
        "l2@kernel",
        "(1e-4)@kernel",
        "l2(1e-4)kernel",
        "l2(1e-4)@kernel:",
        "l2(1e-4)@kernel: ",
        "l2(1e-4@kernel",
        "l2[1e-4]@kernel",
        "l2 (1e-4)@kernel",
        "l2(1e-4)@kernel,bias",
        "l2(1e-4)@@kernel",
    )
} | {
    "l2(1e-4)@kernel;": in_form(""),
    ";l2(1e-4)@kernel": in_form(""),
    "l2(1e-4)@kernel;;l1(1e-4)@bias": in_form(""),
    "l2((1e-4))@kernel": "a scale must be a finite float >= 0, got '(1e-4)': write for "
    "example 1e-4",
    "l2()@kernel": "a scale must be a finite float >= 0, got '': write for example "
    "1e-4",
    "l2(x)@kernel": "a scale must be a finite float >= 0, got 'x': write for example "
    "1e-4",
    "l1_l2(1e-4,)@kernel": "a scale must be a finite float >= 0, got '': write for "
    "example 1e-4",
    "l2(nan)@kernel": NOT_FINITE.format("nan"),
    "l2(inf)@kernel": NOT_FINITE.format("inf"),
    "l2(1e999)@kernel": NOT_FINITE.format("inf"),
    "l2(-1e-4)@kernel": NOT_FINITE.format("-0.0001"),
    "l2(1,2)@kernel": f"l2 must have 1 scale(s), got 2: write {FORM}",
    "l1_l2(1)@kernel": f"l1_l2 must have 2 scale(s), got 1: write {FORM}",
    "l3(1)@kernel": "a regularizer must be one of l1, l2, l1_l2, l2_sp, decay, got "
    "'l3': write for example l2",
    "L2(1)@kernel": "a regularizer must be one of l1, l2, l1_l2, l2_sp, decay, got "
    "'L2': write for example l2",
    "l2(1)@weights": "a target must be one of kernel, bias, activity, got 'weights': "
    "write for example kernel",
    "l2(1)@kernel:(": "a pattern must be a regular expression, got '(' (missing ), "
    "unterminated subpattern at position 0): write for example dense_.*",
    "l2(1)@kernel:*": "a pattern must be a regular expression, got '*' (nothing to "
    "repeat at position 0): write for example dense_.*",
    # Python warns that it may mean something else one day.
    "l2(1)@kernel:[[a]": "a pattern must be a regular expression, got '[[a]' (Possible "
    "nested set at position 1): write for example dense_.*",
    "l2(1)@kernel:a{99999999999}": "a pattern must be a regular expression, got "
    "'a{99999999999}' (the repetition number is too large): write for example dense_.*",
}


@pytest.mark.parametrize("text", list(MALFORMED))
def test_a_malformed_text_is_refused(text):
    with pytest.raises(ValueError) as info, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as outside of tests
        rules.parse(text)
    assert str(info.value) == MALFORMED[text] and HOUSE.fullmatch(str(info.value))


def test_a_pattern_too_deep_for_python_is_refused():
    with pytest.raises(ValueError, match="a pattern must be a regular expression"):
        rules.Rule("l2", (1e-4,), "kernel", "(" * 5000)


@pytest.mark.parametrize("pattern", ["", " a", "a ", "a;b", "\n"])
def test_a_pattern_that_the_text_could_not_hold_is_refused(pattern):
    with pytest.raises(ValueError) as info:
        rules.Rule("l2", (1e-4,), "kernel", pattern)
    assert str(info.value) == (
        "a pattern must be text without ; and without spaces at its ends, got "
        f"{pattern!r}: write \\x3b for ; and None for every layer"
    )


@pytest.mark.parametrize("scales", [1e-4, "1e-4", None, ("1e-4",), (None,)])
def test_scales_that_are_no_numbers_are_refused(scales):
    with pytest.raises(TypeError) as info:
        rules.Rule("l2", scales, "kernel")
    assert str(info.value) == (
        f"scales must be a tuple of floats, got {scales!r}: write for example (1e-4,)"
    )


@pytest.mark.parametrize("scale", [1, 0, True])
def test_an_int_is_refused_as_contrib_does(scale):
    with pytest.raises(
        ValueError, match=f"scale cannot be an integer, .*got {scale}: "
    ):
        rules.Rule("l2", (scale,), "kernel")


def test_numpys_floats_and_lists_are_taken():
    rule = rules.Rule("l1_l2", [np.float64(0.5), np.float32(0.25)], "bias")
    assert rule == rules.Rule("l1_l2", (0.5, 0.25), "bias") and hash(rule)
    assert str(rule) == "l1_l2(0.5,0.25)@bias"


@pytest.mark.parametrize("pattern", [5, b"a", re.compile("a")])
def test_a_pattern_that_is_no_text_is_refused(pattern):
    with pytest.raises(TypeError) as info:
        rules.Rule("l2", (1e-4,), "kernel", pattern)
    assert str(info.value) == (
        f"a pattern must be a str or None, got {pattern!r}: "
        "write for example 'dense_.*'"
    )


@pytest.mark.parametrize("field", ["regularizer", "target"])
def test_names_of_another_kind_are_refused(field):
    values = {"regularizer": "l2", "scales": (1e-4,), "target": "kernel"}
    for bad in (None, ["l2"], 3):
        with pytest.raises(ValueError, match=f"a {field} must be one of "):
            rules.Rule(**values | {field: bad})


# --reg, --scale, --reg_on


def test_flags_make_a_rule_for_each_target():
    found = rules.make_rules("l2", 1e-4, ("kernel", "bias"))
    assert found == rules.parse("l2(1e-4)@kernel;l2(1e-4)@bias")
    both = rules.make_rules("l1_l2", 1, ["activity"])
    assert both == rules.parse("l1_l2(1,1)@activity")
    assert rules.make_rules("l1", 0.1, []) == ()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("l3", 1e-4, ["kernel"]), "a regularizer must be one of .*, got 'l3': "),
        (("l2", -1.0, ["kernel"]), "scale must be a finite float >= 0, got -1.0: "),
        (("l2", np.nan, ["kernel"]), "scale must be a finite float >= 0, got nan: "),
        (("l2", 1e-4, ["weights"]), "a target must be one of .*, got 'weights': "),
    ],
)
def test_flags_that_are_not_allowed_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence) as info:
        rules.make_rules(*arguments)
    assert HOUSE.fullmatch(str(info.value))


# On our layers

FACTORIES = {
    "l1(0.1)": tfreg.l1_regularizer(0.1),
    "l2(0.3)": tfreg.l2_regularizer(0.3),
    "l1_l2(0.1,0.3)": tfreg.l1_l2_regularizer(0.1, 0.3),
}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("target", ["kernel", "bias", "activity"])
@pytest.mark.parametrize("regularizer", list(FACTORIES))
@pytest.mark.parametrize(
    "make", [lambda **k: models.MLP([5, 3], **k), lambda **k: models.CNN(3, **k)]
)
def test_penalties_are_those_of_constructor_arguments(
    make, regularizer, target, built, rng
):
    x = rng.uniform(size=(2, 12, 12)).astype("float32")
    found = []
    for ours in (False, True):
        with tfreg.Store().as_default(), tfreg.step_scope():
            own = {f"{target}_regularizer": FACTORIES[regularizer]} if ours else {}
            model = make(seed=0, **own)
            if built:
                with tfreg.step_scope():
                    model(x)
            if not ours:
                apply(f"{regularizer}@{target}", model)
            if not built or target == "activity":
                model(x)
            for variable in model.variables:
                variable.assign_add(0.1 * tf.ones_like(variable))
            found.append(get_penalties())
    assert found[0] == found[1] and len(found[0]) == (2 if len(model.layers) < 5 else 5)


def test_a_pattern_matches_the_whole_name():
    model = models.MLP([2] * 12)
    apply("l2(0.1)@kernel:dense_1;l1(0.1)@kernel:dense_1.+", model)
    model(tf.ones([1, 2]))
    assert sorted(get_terms()) == [
        "dense_1/kernel/Regularizer/l2_regularizer",
        "dense_10/kernel/Regularizer/l1_regularizer",
        "dense_11/kernel/Regularizer/l1_regularizer",
    ]


def test_patterns_are_regular_expressions_with_their_anchors_and_choices():
    for pattern, count in (
        ("dense_0|dense_1", 2),
        ("^dense_0$", 1),
        ("(?i)DENSE_.", 4),
        (r"dense_[^0]", 3),
        (".*", 4),
    ):
        with tfreg.Store().as_default():
            model = models.MLP([2] * 4)
            apply(f"l2(0.1)@kernel:{pattern}", model)
            model(tf.ones([1, 2]))
            assert len(get_terms()) == count


def test_several_rules_add_up_and_a_rule_applied_twice_counts_twice():
    model = models.MLP([3])
    model(tf.ones([1, 2]))
    apply("l2(0.2)@kernel;l2(0.2)@kernel:dense_0", model)
    apply("l2(0.2)@kernel", model)
    truth = 0.1 * np.sum(model.layers[1].kernel.numpy() ** 2)
    np.testing.assert_allclose(list(get_penalties().values()), [truth] * 3, rtol=1e-6)


def test_a_rule_is_for_layers_that_have_its_target():
    model = layers.Sequential(
        [
            layers.Embedding(5, 4, name="table"),
            layers.Flatten(),
            normalization.BatchNorm(),
            layers.Dense(3, use_bias=False, name="no_bias"),
            layers.Dropout(0.5),
            layers.Dense(3, name="both"),
        ]
    )
    model(tf.zeros([1, 2], tf.int32))
    apply("l2(0.1)@kernel;l2(0.1)@bias", model)
    truth = ["table/embeddings", "no_bias/kernel", "both/kernel", "both/bias"]
    truth = [f"{name}/Regularizer/l2_regularizer" for name in truth]
    assert sorted(get_terms()) == sorted(truth)
    with pytest.raises(ValueError, match="the layers with bias are both: "):
        apply("l2(0.1)@bias:no_bias", model)


def test_both_kernels_of_a_separable_convolution_are_penalized():
    model = layers.SeparableConv2D(3, 3, name="s")
    apply("l2(0.1)@kernel", model)  # A layer is a module, too.
    model(tf.ones([1, 4, 4, 2]))
    assert get_terms() == [
        "s/depthwise_kernel/Regularizer/l2_regularizer",
        "s/pointwise_kernel/Regularizer/l2_regularizer",
    ]


def test_a_scale_of_zero_is_no_penalty():
    model = models.MLP([3])
    apply("l2(0.0)@kernel", model)
    model(tf.ones([1, 2]))
    assert get_penalties() == {}


# On modules of one's own


class Linear(tf.Module):
    """What TensorFlow's guide writes, of w and b."""

    def __init__(self, num_inputs=2, num_outputs=3, name=None):
        super().__init__(name)
        values = np.arange(num_inputs * num_outputs, dtype=np.float32)
        self.w = tf.Variable(values.reshape(num_inputs, num_outputs))
        self.b = tf.Variable(np.arange(num_outputs, dtype=np.float32))
        self.step = tf.Variable([[1, 2]])  # Integers are no weights.
        self.mean = tf.Variable([[1.0]], trainable=False)

    def __call__(self, x):
        return x @ self.w + self.b


class Net(tf.Module):
    """Lists, dicts, nested modules, one of them twice, one of ours, a cycle."""

    def __init__(self):
        super().__init__()
        self.blocks = [Linear(), Linear(3, 3), layers.Dense(4)]
        self.heads = {"a": Linear(4, 2), "b": (Linear(4, 1),)}
        self.again = self.blocks[0]
        self.tied = self.blocks[1].w
        self.embedding = tf.Variable(tf.ones([5, 2]))
        self.blocks[0].owner = self

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x)


def test_a_plain_module_is_penalized_by_w_and_b():
    model = Linear()
    apply("l2(0.2)@kernel;l1(0.1)@bias", model)
    got = get_penalties()
    assert list(got) == ["w/Regularizer/l2_regularizer", "b/Regularizer/l1_regularizer"]
    np.testing.assert_allclose(list(got.values()), [0.1 * 55, 0.1 * 3], rtol=1e-6)
    with tf.GradientTape() as tape:
        total = tfreg.losses.total_loss(tf.zeros([1]))
    gradients = tape.gradient(total, [model.w, model.b])
    np.testing.assert_allclose(gradients[0], 0.2 * model.w, rtol=1e-6)
    np.testing.assert_allclose(gradients[1], 0.1 * np.sign(model.b), rtol=1e-6)


def test_a_modules_own_variables_go_by_its_name():
    model = Linear(name="mine")
    apply("l2(0.2)@kernel:mine", model)
    assert get_terms() == ["w/Regularizer/l2_regularizer"]
    with pytest.raises(ValueError, match="the layers with kernel are mine: "):
        apply("l2(0.2)@kernel:w", model)


def test_lists_dicts_and_nested_modules_are_searched_each_variable_once():
    model = Net()
    model(tf.ones([1, 2]))
    apply("l2(0.2)@kernel", model)
    penalized = [term.variables[0] for term in tfreg.get_default_store().get_terms()]
    truth = [
        model.blocks[0].w,
        model.blocks[1].w,
        model.blocks[2].kernel,
        model.heads["a"].w,
        model.heads["b"][0].w,
        model.embedding,
    ]
    assert {id(v) for v in penalized} == {id(v) for v in truth}
    assert len(penalized) == len(truth)


@pytest.mark.parametrize(
    "rule, truth",
    [
        ("l2(0.1)@kernel:heads/a", ["heads/a/w"]),
        ("l2(0.1)@bias:heads/.*", ["heads/a/b", "heads/b/0/b"]),
        ("l2(0.1)@kernel:blocks/1", ["blocks/1/w"]),
        ("l2(0.1)@kernel:net", ["embedding", "tied"]),
        ("l2(0.1)@kernel:dense", ["dense/kernel"]),
    ],
)
def test_the_path_of_attributes_is_a_layers_name(rule, truth):
    model = Net()
    model(tf.ones([1, 2]))
    apply(rule, model)
    names = [name.removesuffix("/Regularizer/l2_regularizer") for name in get_terms()]
    assert sorted(names) == truth


def test_penalties_of_a_plain_module_are_those_of_our_layers(rng):
    ours, plain = layers.Dense(3), Linear()
    ours(tf.ones([1, 2]))
    ours.kernel.assign(plain.w)
    ours.bias.assign(plain.b)
    found = []
    for model in (ours, plain):
        with tfreg.Store().as_default() as mine:
            ours.store = mine
            apply("l1_l2(0.1,0.2)@kernel;l2(0.3)@bias", model)
            found.append(list(get_penalties().values()))
    assert found[0] == found[1] and len(found[0]) == 2


class Lazy(tf.Module):
    """Makes its variable at the first call."""

    w = None

    def __call__(self, x):
        if self.w is None:
            self.w = tf.Variable(tf.ones([x.shape[-1], 2]))
        return x @ self.w


def test_a_lazy_module_is_penalized_once_it_is_built():
    model = Lazy()
    with pytest.raises(ValueError) as info:
        apply("l2(0.1)@kernel", model)
    assert str(info.value) == (
        "a rule must match a layer, got 'l2(0.1)@kernel', and the layers with kernel "
        "are none (not made yet?): change the pattern"
    )
    model(tf.ones([1, 3]))
    apply("l2(0.1)@kernel", model)
    np.testing.assert_allclose(list(get_penalties().values()), [0.3], rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_our_layers_are_penalized_though_built_later(jit_compile):
    class Wrapped(tf.Module):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(3), layers.Dense(2)]

        def __call__(self, x):
            return self.parts[1](self.parts[0](x))

    model = Wrapped()
    apply("l2(0.1)@kernel", model)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        return tfreg.losses.total_loss(tf.reduce_sum(0 * model(x), 1))

    got = [step(tf.ones([1, 2])) for _ in range(2)]
    truth = sum(0.05 * np.sum(p.kernel.numpy() ** 2) for p in model.parts)
    np.testing.assert_allclose(got, [truth, truth], rtol=1e-5)


def test_variables_that_a_layer_of_ones_own_makes_otherwise_are_found():
    class Own(base.Layer):
        parameters = {"kernel": "kernel"}

        def __init__(self):
            super().__init__(name="own")
            self.extra = tf.Variable(tf.ones([2, 2]))

        def __call__(self, x, training=False):
            initializer = layers.initializers.glorot_uniform
            return x @ self.get_variable("kernel", [2, 2], initializer) @ self.extra

    model = Own()
    model(tf.ones([1, 2]))
    apply("l2(0.1)@kernel", model)
    assert sorted(get_terms()) == [
        "extra/Regularizer/l2_regularizer",
        "own/kernel/Regularizer/l2_regularizer",
    ]


def test_a_module_without_its_constructors_call_is_penalized():
    class Bare(tf.Module):
        def __init__(self):
            self.w = tf.Variable(tf.ones([2, 2]))

    model = Bare()
    apply("l2(0.1)@kernel", model)
    assert get_terms() == ["w/Regularizer/l2_regularizer"]


def test_the_store_is_the_layers_own_or_the_default():
    with tfreg.Store().as_default() as first:
        ours = layers.Dense(2, name="a")
        ours(tf.ones([1, 2]))
    plain = Linear()
    apply("l2(0.1)@kernel", ours)
    apply("l2(0.1)@kernel", plain)
    assert [term.name for term in first.get_terms()] == [
        "a/kernel/Regularizer/l2_regularizer"
    ]
    assert get_terms() == ["w/Regularizer/l2_regularizer"]


def test_mirrored_variables_are_penalized_once():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = Linear()
    apply("l2(0.2)@kernel", model)
    np.testing.assert_allclose(list(get_penalties().values()), [5.5], rtol=1e-6)


# What matches nothing


def test_an_unmatched_rule_penalizes_nothing_and_lists_the_names():
    model = models.MLP([4, 3])
    model(tf.ones([1, 2]))
    with pytest.raises(ValueError) as info:
        apply("l2(1e-4)@kernel;l1(1e-5)@activity:dense", model)
    assert str(info.value) == (
        "a rule must match a layer, got 'l1(1e-05)@activity:dense', and the layers "
        "with activity are dense_0, dense_1: change the pattern"
    )
    assert get_terms() == [] and model.layers[1].kernel_regularizer is None


def test_names_of_both_kinds_are_listed():
    model = Net()
    model(tf.ones([1, 2]))
    with pytest.raises(ValueError) as info:
        apply("l2(0.1)@kernel:nosuch", model)
    # Those of one variable are listed under each name that matches it.
    listed = re.search("the layers with kernel are (.*): change", str(info.value))[1]
    names = "dense net again blocks/0 blocks/1 heads/a heads/b/0"  # Round no circle.
    assert sorted(listed.split(", ")) == sorted(names.split())


def test_activities_of_a_plain_module_are_refused():
    with pytest.raises(
        ValueError, match=r"with activity are none \(only tfreg.layers have any\): "
    ):
        apply("l2(0.1)@activity", Linear())


def make_keras():
    block = keras.Sequential([keras.layers.Dense(4, name="inner")], name="block")
    layers = [keras.Input((2,)), keras.layers.Dense(3, name="dense"), block]
    return keras.Sequential(layers)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_keras_model_is_penalized_as_keras_does(frozen):
    model, other = make_keras(), make_keras()
    other.set_weights(model.get_weights())
    rules.apply("l2(0.2)@kernel;l1(0.3)@bias:.*inner", model)
    # Keras's L2 has no half.
    dense, inner = other.layers[0], other.layers[1].layers[0]
    dense.kernel.regularizer = inner.kernel.regularizer = keras.regularizers.L2(0.1)
    inner.bias.regularizer = keras.regularizers.L1(0.3)
    for m in (model, other):
        m.layers[1].layers[0].bias.assign([1.0, -2.0, 0.0, 4.0])
    if frozen:
        other.layers[0].trainable = model.layers[0].trainable = False
    total = tfreg.losses.total_loss(tf.zeros([1]), model)
    np.testing.assert_allclose(total, sum(other.losses), rtol=1e-6)  # float32 sums


def test_a_pattern_that_matches_no_keras_layer_lists_their_paths():
    with pytest.raises(ValueError, match="dense, block/inner|dense, sequential.*inner"):
        rules.apply("l2(0.1)@kernel:nothing", make_keras())


def test_a_single_rule_is_refused():
    with pytest.raises(TypeError, match=r"rules must be several .*write \[rule\]"):
        rules.apply(rules.Rule("l2", (0.1,), "kernel"), models.MLP([3]))


def test_no_rules_do_nothing():
    rules.apply([], models.MLP([3]))
    assert get_terms() == []
