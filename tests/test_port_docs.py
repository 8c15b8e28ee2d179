"""docs/porting.md is true: its script, what becomes of it, and every name in it."""

import functools
import pathlib
import re
import types

import numpy as np
import tf1_originals

import tfreg
from tfreg import tf1
from tfreg.cli import port

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "porting.md").read_text(encoding="utf-8")
BEFORE, AFTER, BY_HAND = re.findall(
    r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL
)[:3]
TOLD = re.search(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[1]


def test_the_script_becomes_what_is_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("train.py").write_text(BEFORE)
    assert port.run(["tfreg port", "train.py"]) == 1
    out, err = capfd.readouterr()
    assert out.partition("\n\ndef train(")[0] == AFTER
    assert err == TOLD


def test_both_scripts_train_alike(mended_slim, rng):
    batches = [
        (rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8))
        for _ in range(10)
    ]

    def start_alike(source):
        what = "weights_initializer=tf.constant_initializer(0.1), weights_regularizer="
        assert "weights_regularizer=" in source
        return source.replace("weights_regularizer=", what)

    with tf1_originals.graph():
        before = tf1_originals.load(start_alike(BEFORE))
        expected = before.train(batches)
    after = types.ModuleType("after")
    exec(compile(start_alike(AFTER + BY_HAND), "after", "exec"), after.__dict__)
    got = after.train(batches)
    # Float32.
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_every_name_is_there():
    names = set(re.findall(r"\b((?:tf1|tfreg)\.[a-zA-Z_][\w.]*\w)\b", TEXT))
    assert len(names) > 20
    for name in names:
        first, *parts = name.removesuffix(".X").split(".")
        functools.reduce(getattr, parts, {"tfreg": tfreg, "tf1": tf1}[first])


def test_every_function_of_a_family_is_there():
    rows = re.findall(r"\| `(tf1\.\w+)\.X`: (.*?)(?:;.*)? \|\n", TEXT)
    assert len(rows) == 3
    for family, words in rows:
        module = functools.reduce(getattr, family.split(".")[1:], tf1)
        words = re.sub(r"\(.*?\)", "", words)
        for word in re.findall(r"\b\w+", words):
            assert hasattr(module, word), f"{family}.{word}"
