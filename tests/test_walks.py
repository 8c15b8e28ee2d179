"""The commands of docs/files.md, to the letter, on scikit-learn's data."""

import inspect
import json
import os
import pathlib
import re
import shlex

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn import datasets, metrics

from tfreg.cli import commands

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "files.md"


def write_diabetes():
    datasets.load_diabetes(as_frame=True).frame.to_csv("diabetes.csv", index=False)


def check_diabetes():
    frame, got = pd.read_csv("diabetes.csv"), pd.read_csv("predictions.csv")
    assert list(got) == ["row", "target"]
    assert metrics.r2_score(frame["target"], got["target"]) > 0.4


def write_digits():
    digits = datasets.load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = pathlib.Path("digits", str(label))
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.uint8(image[..., np.newaxis] * 15)
        png = tf.io.encode_png(pixels).numpy()
        (folder / f"{i:04}.png").write_bytes(png)


def check_digits():
    got = pd.read_csv("predictions.csv")
    assert list(got)[:3] == ["file", "label", "probability_0"]
    truth = [int(path.split("/")[1]) for path in got["file"]]
    assert len(got) == 1797 and np.mean(got["label"] == truth) > 0.9


def write_cancer():
    datasets.load_breast_cancer(as_frame=True).frame.to_csv("cancer.csv", index=False)


def check_cancer():
    frame, got = pd.read_csv("cancer.csv"), pd.read_csv("predictions.csv")
    assert list(got) == ["row", "label", "probability_0", "probability_1"]
    assert metrics.accuracy_score(frame["target"], got["label"]) > 0.95
    assert metrics.roc_auc_score(frame["target"], got["probability_1"]) > 0.98


def write_texts():
    """Writes what NumPy and TensorFlow say of their functions."""
    rows = []
    for module in (np, tf):
        members = {name: getattr(module, name) for name in sorted(vars(module))}
        for member in members.values():
            text = " ".join((inspect.getdoc(member) or "").split()[:60])
            if callable(member) and len(text) > 30:
                rows.append((text, module.__name__))
    pd.DataFrame(rows, columns=["text", "label"]).to_csv("texts.csv", index=False)


def check_texts():
    frame, got = pd.read_csv("texts.csv"), pd.read_csv("predictions.csv")
    assert set(got["label"]) == {"numpy", "tensorflow"} and len(got) > 300
    assert metrics.accuracy_score(frame["label"], got["label"]) > 0.9


def link_cifar10():
    """Links CIFAR-10's pictures, or skips: they take minutes."""
    folder = os.environ.get("TFREG_CIFAR10")
    if folder is None:
        pytest.skip("set TFREG_CIFAR10 to CIFAR-10's folder of train/ and test/")
    pathlib.Path("cifar10").symlink_to(folder)


def check_cifar10():
    got = pd.read_csv("predictions.csv")
    truth = [path.split("/")[-2] for path in got["file"]]
    assert len(got) == len(list(pathlib.Path("cifar10/test").rglob("*.jpg")))
    assert np.mean(got["label"] == truth) > 0.2  # By chance 0.1.


WALKS = {
    "diabetes": (write_diabetes, check_diabetes),
    "cancer": (write_cancer, check_cancer),
    "texts": (write_texts, check_texts),
    "digits": (write_digits, check_digits),
    "cifar10": (link_cifar10, check_cifar10),
}


@pytest.mark.parametrize("name", WALKS)
def test_the_commands_of_the_page_go_from_a_file_to_predictions(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write, check = WALKS[name]
    write()
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (block,) = [block for block in blocks if f"--run=runs/{name}" in block]
    lines = block.replace("\\\n", " ").splitlines()
    assert len(lines) <= 3
    for line in lines:
        assert commands.main(shlex.split(line)) == 0, line
    check()
    result = json.loads(pathlib.Path(f"runs/{name}/result.json").read_text())
    assert np.isfinite(result["test"]["loss"])
