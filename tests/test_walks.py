"""The commands of docs/files.md, to the letter, on scikit-learn's data."""

import json
import pathlib
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets, metrics

from tfreg.cli import commands

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "files.md"


def write_diabetes():
    datasets.load_diabetes(as_frame=True).frame.to_csv("diabetes.csv", index=False)


def check_diabetes():
    frame, got = pd.read_csv("diabetes.csv"), pd.read_csv("predictions.csv")
    assert list(got) == ["row", "target"]
    assert metrics.r2_score(frame["target"], got["target"]) > 0.4


WALKS = {"diabetes": (write_diabetes, check_diabetes)}


@pytest.mark.parametrize("name", WALKS)
def test_the_commands_of_the_page_go_from_a_file_to_predictions(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write, check = WALKS[name]
    write()
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (block,) = [block for block in blocks if f"runs/{name}\n" in block]
    lines = block.replace("\\\n", " ").splitlines()
    assert len(lines) <= 3
    for line in lines:
        assert commands.main(shlex.split(line)) == 0, line
    check()
    result = json.loads(pathlib.Path(f"runs/{name}/result.json").read_text())
    assert np.isfinite(result["test"]["loss"])
