"""Config: the round trip to JSON, invalid values, and the names of runs."""

import dataclasses
import inspect
import json
import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from tfreg import data, rules
from tfreg.cli import commandline
from tfreg.optimizers import kernels, schedules
from tfreg.runs import config, inputs
from tfreg.runs.config import Config
from tfreg.training import precision, strategies

# NAME must be ALLOWED, got VALUE: DO THIS.
HOUSE = re.compile(r"[a-z_ ]+ must .+, got .+: .+", re.DOTALL)
RULES = "l2(1e-4)@kernel;l1(1e-5)@activity:dense_0"

FINITE = st.floats(0, allow_nan=False, allow_infinity=False)
POSITIVE = FINITE.filter(lambda value: value > 0)
COUNT = st.integers(1, 2**40)
TEXT = st.text(max_size=8)
START = st.sampled_from("aZ09")
PENALTIES = st.one_of(
    st.fixed_dictionaries(
        {
            "reg": st.sampled_from(["none", "l1", "l2", "l1_l2"]),
            "scale": st.none()
            | FINITE
            | st.sampled_from(["linear(0.0, 0.1, 9)", "linear(0.0, 0.1, 8)"]),
            "reg_on": st.lists(
                st.sampled_from(rules.TARGETS), min_size=1, unique=True
            ).map(tuple),
        }
    ),
    st.fixed_dictionaries(
        {
            "reg": st.sampled_from(
                [
                    RULES,
                    "l2(0.1)@kernel",
                    "l2_sp(0.1)@kernel;decay(0.1,by=step)@bias:!a",
                    "decay(constant(0.1))@bias:a",
                    "l2(1e-1)@kernel:a|b",
                    "l2(1e-1)@kernel:a_b",
                    "l2(0.1)@kernel:a-dropout=0.5",
                    "l1_l2(1e-9,1e9)@bias: .* ",
                ]
            )
        }
    ),
)
NAMES = st.lists(st.text(min_size=1, max_size=8), max_size=3).map(tuple)
DATA = st.fixed_dictionaries({}) | st.fixed_dictionaries(
    {"data": st.text("aé.b/_", min_size=1, max_size=8)},
    optional={
        "target": NAMES,
        "drop": NAMES,
        "text": NAMES,
        "features": st.sampled_from([(), ("age:float32", "x:int64[2x3]")]),
        "group": st.none() | TEXT,
        "split": st.sampled_from(["0.8,0.1,0.1", "0.5,0.25,0.25", "part"]),
        "split_seed": st.integers(0, 2**31 - 1),
        "image_size": st.none() | st.sampled_from(["8x8", "12x1024"]),
    },
)
FIELDS = {
    "task": st.sampled_from(config.TASKS),
    "class_weights": st.sampled_from(config.WEIGHTS),
    "dataset": st.sampled_from(config.DATASETS),
    "init_from": st.none() | TEXT,
    "init_pattern": st.sampled_from([".*", "a.*", "a_", "a/"]),
    "ema": st.none() | st.floats(0, 1, exclude_max=True),
    "monitor": st.sampled_from(["validation/loss/data", "validation/accuracy"]),
    "data_dir": st.none() | TEXT,
    "train_examples": st.none() | st.integers(1, 100),
    "loss": st.sampled_from(["auto", "keras:Huber(0.5)", "keras:Huber", "nets:loss"]),
    "metrics": st.sampled_from([(), ("r2", "keras:AUC(curve='PR')"), ("nets:m",)]),
    "augment": st.sampled_from([(), ("flip", "crop(4)"), ("flip",), ("nets:shift",)]),
    "model": st.sampled_from(
        [*config.MODELS, "nets:build", "nets:other", "keras:ResNet50"]
    ),
    "hidden": st.lists(COUNT, max_size=4).map(tuple),
    "activation": st.sampled_from(config.ACTIVATIONS),
    "dropout": st.floats(0, 1, exclude_max=True),
    "optimizer": st.sampled_from(config.OPTIMIZERS),
    "learning_rate": POSITIVE,
    "schedule": st.sampled_from(config.SCHEDULES),
    "warmup_steps": st.integers(0, 2**40),
    "clip_norm": st.none() | POSITIVE,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "precision": st.sampled_from(config.PRECISIONS),
    "deterministic": st.booleans(),
    "epochs": COUNT,
    "seed": st.integers(0, 2**31 - 1),
    "compile": st.sampled_from(config.COMPILES),
    "strategy": st.sampled_from(config.STRATEGIES),
    "logical_devices": st.integers(0, 64),
    "patience": st.none() | COUNT,
    "checkpoint_every": st.sampled_from(["1", "700", "30s"]),
    "keep_checkpoints": st.integers(2, 9),
    "logdir": TEXT,
    "run_name": st.none()
    | st.builds(str.__add__, START, st.text("aZ09._=+-", max_size=149)),
}


@st.composite
def configs(draw, fields=tuple(FIELDS)):
    """Draws a Config with some of the fields set."""
    chosen = draw(st.sets(st.sampled_from(fields)))
    values = {name: draw(FIELDS[name]) for name in sorted(chosen)}
    own = draw(DATA)
    if own:
        values = {k: v for k, v in values.items() if k not in ("dataset", "data_dir")}
    return make_config(Config(), **draw(PENALTIES), **values, **own)


def make_config(base, **changes):
    """Returns a Config with no more microbatches than examples in a batch."""
    values = dataclasses.asdict(base) | changes
    most = min(values["accumulate"], values["batch_size"])
    return Config(**values | {"accumulate": most})


# JSON


def test_every_field_is_drawn():
    names = {field.name for field in dataclasses.fields(Config)}
    own = {
        "set",
        "data",
        "target",
        "drop",
        "text",
        "features",
        "group",
        "split",
        "split_seed",
        "image_size",
    }
    assert names == {"reg", "scale", "reg_on", *own, *FIELDS}


@hypothesis.given(configs())
def test_json_reads_back_equal(settings):
    text = settings.to_json()
    assert config.from_json(text) == settings
    assert config.from_json(text).to_json() == text
    assert hash(config.from_json(text)) == hash(settings)
    assert list(json.loads(text)) == [f.name for f in dataclasses.fields(Config)]
    assert text.isascii() and text.endswith("}\n")


def test_fields_that_are_missing_have_their_defaults():
    # So that an older config.json can be read.
    assert config.from_json("{}") == Config()
    assert config.from_json('{"epochs": 3}') == Config(epochs=3)


def test_new_fields_leave_the_hashes_of_earlier_versions():
    # As version 0.1.0 computed them before it read tables.
    assert Config().get_hash().startswith("8132204382f281ea")
    old = Config("l2", 1e-3, dataset="npz", data_dir="a.npz", hidden=(8,))
    assert old.get_hash().startswith("fb4231d6c1898441")
    assert old.get_run_name() == "npz-mlp8-l2_0.001_kernel-seed0-d1e5edc4"
    one, two = (Config(model="a:b", set=(f"depth={n}",)) for n in (1, 2))
    assert one.get_run_name() != two.get_run_name() and "depth=1" in one.get_run_name()
    assert one.options == {"depth": 1} and one.get_hash() != two.get_hash()
    assert Config(task="binary").get_hash() != Config().get_hash()
    assert Config(loss="keras:Huber").get_hash() != Config().get_hash()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"target": ("y",)}, "target must be used with data"),
        ({"split": "part"}, "split must be used with data"),
        ({"data": "a.csv", "dataset": "mnist"}, "dataset must be left out beside data"),
        ({"data": "a.csv", "split": "1,0,0"}, "split must be three fractions > 0"),
        ({"data": "a", "image_size": "32"}, "image_size must be HEIGHTxWIDTH"),
        ({"model": "nets:"}, "model must be module:function"),
        ({"set": ("a=1",)}, "set must be used with a model or data of your own"),
        ({"model": "a:b", "set": ("a",)}, "set must be a name, = and a value"),
        ({"model": "a:b", "set": ("a=1", "a=2")}, "each name once"),
        ({"task": "regress"}, "task must be one of auto, classification"),
    ],
)
def test_flags_of_data_are_used_with_data(values, message):
    with pytest.raises(ValueError, match=message):
        Config(**values)


def test_ints_stand_for_floats():
    settings = config.from_json(
        '{"reg": "l2", "scale": 1, "learning_rate": 2, "clip_norm": 3, "dropout": 0}'
    )
    assert settings == Config("l2", 1.0, learning_rate=2.0, clip_norm=3.0)
    for name in ("scale", "learning_rate", "clip_norm", "dropout"):
        assert type(getattr(settings, name)) is float
    assert settings.get_rules() == rules.parse("l2(1.0)@kernel")
    assert (
        settings.get_run_name()
        == Config("l2", 1.0, learning_rate=2.0, clip_norm=3.0).get_run_name()
    )


def test_lists_stand_for_several():
    settings = Config(hidden=[8, 4], reg_on=["bias"])
    assert settings == Config(hidden=(8, 4), reg_on=("bias",))
    assert hash(settings) and settings.hidden == (8, 4)


@pytest.mark.parametrize(
    "text", ["", "{", "nul", "[" * 10_000, '{"seed": ' + "1" * 5000]
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError) as info:
        config.from_json(text)
    sentence = str(info.value)
    assert sentence.startswith(f"a config must be JSON, got {text[:40]!r} (")
    assert sentence.endswith("): pass the config.json of a run")


@pytest.mark.parametrize("text", ["null", "[]", "3", '"reg"', "NaN"])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(ValueError) as info:
        config.from_json(text)
    assert str(info.value) == (
        f"a config must be a JSON object, got {text!r}: pass the config.json of a run"
    )


def test_unknown_fields_are_refused_with_those_there_are():
    with pytest.raises(ValueError) as info:
        config.from_json('{"epochs": 3, "lr": 0.1, "Scale": 1}')
    known = ", ".join(field.name for field in dataclasses.fields(Config))
    assert str(info.value) == (
        f"a config must have only the fields {known}, got Scale, lr: "
        "remove the unknown ones"
    )


@pytest.mark.parametrize(
    "text, sentence",
    [
        ('{"scale": NaN}', "scale must be a finite float >= 0, got nan: "),
        ('{"scale": Infinity}', "scale must be a finite float >= 0, got inf: "),
        ('{"scale": 1e999}', "scale must be a finite float >= 0, got inf: "),
        (
            '{"learning_rate": -Infinity}',
            "learning_rate must be a finite float > 0, got -inf: ",
        ),
        ('{"clip_norm": NaN}', "clip_norm must be a finite float > 0, got nan: "),
        ('{"dropout": NaN}', "dropout must be in [0, 1), got nan: "),
        # A float can't hold it.
        (
            '{"learning_rate": 1' + "0" * 400 + "}",
            "learning_rate must be a finite float > 0, got inf: ",
        ),
        ('{"epochs": NaN}', "epochs must be int, got nan: "),
    ],
)
def test_numbers_that_are_not_finite_are_refused_in_json(text, sentence):
    with pytest.raises(ValueError) as info:
        config.from_json(text)
    assert str(info.value).startswith(sentence) and HOUSE.fullmatch(str(info.value))


# Values


WRONG_TYPES = {
    "reg": ([None, 3, ["l2"]], "str"),
    "scale": (["1e-4", True, [1e-4]], "float or a schedule as text or null"),
    "reg_on": (["kernel", None, ("kernel", 3)], "several str"),
    "dataset": ([None, 3], "str"),
    "data_dir": ([3, True], "str or null"),
    "hidden": ([128, "128", (128.0,), (True,), ((128,),), None], "several int"),
    "learning_rate": (["1e-3", None, True], "float"),
    "clip_norm": (["1", False], "float or null"),
    "batch_size": ([32.0, "32", True, None], "int"),
    "epochs": ([3.0, True], "int"),
    "seed": ([0.0, False], "int"),
    "run_name": ([3, True], "str or null"),
}


@pytest.mark.parametrize(
    "name, value", [(n, value) for n in WRONG_TYPES for value in WRONG_TYPES[n][0]]
)
def test_another_type_is_refused(name, value):
    with pytest.raises(ValueError) as info:
        Config(**{name: value})
    wanted = WRONG_TYPES[name][1]
    assert str(info.value) == f"{name} must be {wanted}, got {value!r}: change its type"


REG = "reg must be none, l1, l2, l1_l2, l2_sp, decay or rules such as "
REG += "l2(1e-4)@kernel, got {!r}: "
REG_ON = "reg_on must be one or more of kernel, bias, activity, each once, got {!r}: "
FINITE_SCALE = "scale must be a finite float >= 0, got {!r}: write 0.0 for no penalty"
# Field, value -> how the message begins.
REFUSED = [
    ({"reg": "l3"}, REG.format("l3") + "choose one of them"),
    ({"reg": ""}, REG.format("")),
    ({"reg": "L2"}, REG.format("L2")),
    ({"reg": " l2"}, REG.format(" l2")),
    ({"reg": "l2(1e-4)"}, "a rule must have the form "),
    ({"reg": "l2(1e-4)@weights"}, "a target must be one of kernel, bias, activity, "),
    ({"reg": "l2(nan)@kernel"}, "scale must be a finite float >= 0, got nan: "),
    ({"reg": "l2", "scale": -1.0}, FINITE_SCALE.format(-1.0)),
    ({"scale": -1.0}, FINITE_SCALE.format(-1.0)),
    ({"reg": "l2", "scale": np.nan}, FINITE_SCALE.format(np.nan)),
    ({"reg": "l1", "scale": np.inf}, FINITE_SCALE.format(np.inf)),
    (
        {"reg": RULES, "scale": 1e-4},
        f"scale must be in the rules, got 0.0001 beside {RULES!r}: leave scale out",
    ),
    (
        {"reg": RULES, "reg_on": ("bias",)},
        f"reg_on must be in the rules, got ('bias',) beside {RULES!r}: leave reg_on "
        "out, or write its default, kernel",
    ),
    ({"reg_on": ("weights",)}, REG_ON.format(("weights",))),
    ({"reg_on": ()}, REG_ON.format(()) + "write reg=none for no penalty"),
    ({"reg_on": ("kernel", "kernel")}, REG_ON.format(("kernel", "kernel"))),
    ({"reg_on": ("",)}, REG_ON.format(("",))),
    ({"logdir": "a\udcff"}, r"logdir must be UTF-8, got 'a\udcff': "),
    ({"logdir": "a\0b"}, r"logdir must be UTF-8, got 'a\x00b': "),
    ({"dataset": "nosuch"}, "dataset must be one of mnist5k, "),
    ({"model": "rnn"}, "model must be one of mlp, cnn, linear, resnet20, got 'rnn': "),
    ({"activation": "swish"}, "activation must be one of relu, "),
    ({"optimizer": "Adam"}, "optimizer must be one of "),
    ({"schedule": "nosuch"}, "schedule must be one of constant, "),
    ({"precision": "float8"}, "precision must be one of "),
    ({"strategy": "tpu"}, "strategy must be one of "),
    ({"batch_size": 0}, "batch_size must be an int >= 1, got 0: "),
    ({"epochs": -1}, "epochs must be an int >= 1, got -1: "),
    ({"epochs": 0}, "epochs must be an int >= 1, got 0: "),
    ({"warmup_steps": -1}, "warmup_steps must be an int >= 0, got -1: "),
    ({"accumulate": 0}, "accumulate must be 1 to batch_size, got 0: "),
    ({"accumulate": 33}, "accumulate must be 1 to batch_size, got 33: "),
    ({"logical_devices": -1}, "logical_devices must be an int from 0 to 64, got -1: "),
    ({"learning_rate": np.inf}, "learning_rate must be a finite float > 0, got inf: "),
    ({"learning_rate": 0.0}, "learning_rate must be a finite float > 0, got 0.0: "),
    ({"learning_rate": -1e-3}, "learning_rate must be a finite float > 0, got -0.001"),
    ({"learning_rate": np.nan}, "learning_rate must be a finite float > 0, got nan: "),
    ({"clip_norm": 0.0}, "clip_norm must be a finite float > 0, got 0.0: "),
    ({"clip_norm": np.inf}, "clip_norm must be a finite float > 0, got inf: "),
    ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0: "),
    ({"dropout": -0.1}, "dropout must be in [0, 1), got -0.1: "),
    ({"hidden": (0,)}, "hidden must be widths >= 1, got (0,): "),
    ({"hidden": (128, -1)}, "hidden must be widths >= 1, got (128, -1): "),
    ({"seed": -1}, "seed must be an int from 0 to 2147483647, got -1: "),
    ({"seed": 2**31}, "seed must be an int from 0 to 2147483647, got 2147483648: "),
]


def list_functions(module, kind):
    """Returns the public functions of a module that return a kind of value."""
    return {
        name
        for name, value in inspect.getmembers(module, inspect.isfunction)
        if value.__module__ == module.__name__
        and inspect.signature(value).return_annotation is kind
    }


def test_choices_are_what_the_library_has():
    assert config.DATASETS == data.NAMES
    assert tuple(precision.DTYPES) == config.PRECISIONS
    assert config.STRATEGIES == strategies.NAMES
    optimizers = list_functions(kernels, kernels.Optimizer)
    assert sorted(config.OPTIMIZERS) == sorted(optimizers)
    factories = list_functions(schedules, schedules.Schedule) - {"_check_schedule"}
    assert sorted(rules.SCHEDULES) == sorted(factories)
    assert set(config.SCHEDULES) <= factories
    for name in set(config.ACTIVATIONS) - {"linear"}:
        assert callable(getattr(tf.nn, name))


@pytest.mark.parametrize("values, sentence", REFUSED, ids=[str(v) for v, _ in REFUSED])
def test_a_value_that_is_not_allowed_is_refused(values, sentence):
    with pytest.raises(ValueError) as info:
        Config(**values)
    assert str(info.value).startswith(sentence) and HOUSE.fullmatch(str(info.value))
    # From a file alike, and changing one field.
    text = json.dumps(values)
    with pytest.raises(ValueError, match=re.escape(str(info.value))):
        config.from_json(text)
    with pytest.raises(ValueError, match=re.escape(str(info.value))):
        dataclasses.replace(Config(), **values)


UNSAFE = ["../../x", "/x", "a/b", ".", "..", ".a", "-a", "", " ", "a b", "a\n", "a\0"]
UNSAFE += ["é", "a" * 151, "~", "a:b", "a\\b", "$(a)", "*"]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_run_name_that_is_no_safe_file_name_is_refused(name):
    with pytest.raises(ValueError) as info:
        Config(run_name=name)
    assert str(info.value) == (
        "run_name must be up to 150 letters, digits and . _ = + -, and start with a "
        f"letter or digit, got {name!r}: choose another name"
    )


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().epochs = 3


# Penalties


@pytest.mark.parametrize(
    "settings, truth",
    [
        (Config(), ""),
        (Config(scale=1.0), ""),
        (Config("l2"), "l2(1e-4)@kernel"),
        (Config("l1", 0.5, ("bias", "activity")), "l1(0.5)@bias;l1(0.5)@activity"),
        (Config("l1_l2", 0.5), "l1_l2(0.5,0.5)@kernel"),
        (Config(RULES), RULES),
        (Config("l2", 0.0), "l2(0.0)@kernel"),
    ],
)
def test_the_flags_of_penalties_are_rules(settings, truth):
    assert settings.get_rules() == (rules.parse(truth) if truth else ())


# The names of runs


def test_run_names_are_those_of_earlier_versions():
    # Recorded: a run that is repeated has to find its directory.
    for settings, name in (
        (Config(), "mnist5k-mlp128-none-seed0"),
        (Config("l2"), "mnist5k-mlp128-l2_0.0001_kernel-seed0"),
        (
            Config("l2", 1e-5, ("kernel", "bias"), model="cnn", seed=3),
            "mnist5k-cnn-l2_1e-05_kernel+l2_1e-05_bias-seed3",
        ),
        (
            Config(hidden=(64, 32), learning_rate=1e-2, clip_norm=1.0, epochs=3),
            "mnist5k-mlp64x32-none-learning_rate=0.01-clip_norm=1.0-epochs=3-seed0",
        ),
        (
            Config(RULES),
            "mnist5k-mlp128-l2_0.0001_kernel+l1_1e-05_activity_dense_0-seed0",
        ),
        (
            Config("l2(1e-4)@kernel:a|b"),
            "mnist5k-mlp128-l2_0.0001_kernel_a_b-seed0-d9d03144",
        ),
        (Config(run_name="mine", seed=3), "mine"),
    ):
        assert settings.get_run_name() == name


def get_what_is_run(settings):
    """Returns everything that distinguishes one run from another."""
    fields = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.metadata["group"] not in ("output", "penalties")
    }
    if settings.model == "cnn":
        del fields["hidden"]
    return fields | {"rules": str([*map(str, settings.get_rules())])}


NAMED = tuple(name for name in FIELDS if name not in ("run_name", "logdir"))


@hypothesis.given(configs(NAMED))
def test_a_run_name_is_a_safe_file_name(settings):
    name = settings.get_run_name()
    # What is accepted as --run_name, so that a run can be named by its directory.
    assert Config(run_name=name).get_run_name() == name
    plain = f"{settings.dataset}-{settings.model.replace(':', '_')}"
    assert len(name) <= 150 and (settings.data is not None or name.startswith(plain))
    assert config.from_json(settings.to_json()).get_run_name() == name


@hypothesis.given(configs(NAMED), st.data())
@hypothesis.settings(max_examples=300)
def test_run_names_differ_where_and_only_where_the_runs_do(settings, draw):
    # Close to each other: two or fewer fields are drawn anew.
    changed = draw.draw(st.sets(st.sampled_from(NAMED), max_size=2))
    values = {name: draw.draw(FIELDS[name]) for name in sorted(changed)}
    if settings.data is not None:
        values = {k: v for k, v in values.items() if k not in ("dataset", "data_dir")}
        values |= {"data": settings.data} | draw.draw(DATA)
    if draw.draw(st.booleans()):
        values |= {"scale": None, "reg_on": ("kernel",)} | draw.draw(PENALTIES)
    other = make_config(settings, **values)
    same = settings.get_run_name() == other.get_run_name()
    assert same == (get_what_is_run(settings) == get_what_is_run(other))


def test_run_names_that_are_cut_differ():
    # They differ behind the 150th character.
    found = [
        Config(hidden=(10,) * 60, epochs=e, seed=s) for e in (8, 9) for s in (1, 2)
    ]
    found += [Config(hidden=(10,) * 61, epochs=8, seed=1)]
    names = [settings.get_run_name() for settings in found]
    assert len(set(names)) == 5 and {len(name) for name in names} == {150}
    assert len({name[:140] for name in names}) == 1
    assert all(re.fullmatch(r"-[0-9a-f]{8}", name[-9:]) for name in names)


def test_run_names_of_150_characters_are_not_cut():
    hidden = [10] * 36
    lengths = {}
    for width in (10, 100, 1000, 10000):
        name = Config(hidden=(*hidden[:-1], 10, width)).get_run_name()
        lengths[len(name)] = name
    whole = [name for name in lengths.values() if name.endswith("-none-seed0")]
    assert all(len(name) <= 150 for name in whole)
    assert all(len(name) == 150 for name in set(lengths.values()) - set(whole))


@pytest.mark.parametrize(
    "one, other",
    [
        # Each pair has the same letters.
        ({"reg": "l2(0.1)@kernel:a|b"}, {"reg": "l2(0.1)@kernel:a_b"}),
        ({"reg": "l2(0.1)@kernel:a|b"}, {"reg": "l2(0.1)@kernel:a$b"}),
        (
            {"reg": "l2(0.1)@kernel:a-dropout=0.5"},
            {"reg": "l2(0.1)@kernel:a", "dropout": 0.5},
        ),
        (
            {"dataset": "npz", "data_dir": "a/x.npz"},
            {"dataset": "npz", "data_dir": "b"},
        ),
        ({"dataset": "npz", "data_dir": "a/x"}, {"dataset": "npz", "data_dir": "a_x"}),
        ({"dataset": "npz", "data_dir": ""}, {"dataset": "npz"}),
        ({"reg": "l2", "scale": 1e-4}, {"reg": "l2", "scale": 1.0000001e-4}),
    ],
)
def test_run_names_differ_where_only_signs_do(one, other):
    assert Config(**one).get_run_name() != Config(**other).get_run_name()


def test_what_is_written_where_does_not_change_the_name():
    assert Config(logdir="elsewhere").get_run_name() == Config().get_run_name()


def test_a_folder_name_that_is_no_unicode_is_named():
    # As os.fsdecode gives a name's bytes that are none.
    settings = Config(data_dir="a\udcff")
    assert re.fullmatch(r"mnist5k-.*-[0-9a-f]{8}", settings.get_run_name())
    assert config.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["--data=own.npz"], ("npz", "own.npz", None)),
        (["--data=own.csv"], ("mnist5k", None, "own.csv")),
    ],
)
def test_a_file_of_arrays_is_data_like_other_files(arguments, want):
    values = flags.FlagValues()
    commandline.define_config(values)
    commandline.parse(values, ["train", *arguments])
    settings = commandline.make_config(values, Config())
    assert (settings.dataset, settings.data_dir, settings.data) == want


@pytest.mark.parametrize("other", ["--data_dir=DIR", "--dataset=mnist"])
def test_arrays_are_given_once(other):
    values = flags.FlagValues()
    commandline.define_config(values)
    commandline.parse(values, ["train", "--data=own.npz", other])
    with pytest.raises(ValueError, match="must be left out beside data"):
        commandline.make_config(values, Config())


def test_arrays_have_no_columns(tmp_path):
    settings = Config(data="own.npz", target=("price",), logdir=str(tmp_path))
    with pytest.raises(data.DataError, match="dataset='npz' without target, .*'own.n"):
        inputs.load(settings)
