"""README.md and docs/ are true: their code runs, and prints what is written beside it."""

import contextlib
import io
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import tfreg

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def get_blocks(page, language="python"):
    """Returns the code blocks of a page, those of TF1 left out."""
    found = re.findall(rf"^```{language}\n(.*?)^```", read(page), re.M | re.S)
    return [block for block in found if "tensorflow.contrib" not in block]


def execute(code, folder, names):
    """Runs a block; what it prints must be what its comments promise."""
    path = folder / f"block{len(list(folder.iterdir()))}.py"
    path.write_text(code, encoding="utf-8")  # AutoGraph reads the source.
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, path, "exec"), names)
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.M)
    if promised:
        assert printed.getvalue().splitlines() == promised, code
    return printed.getvalue()


def run(page, folder):
    """Runs all blocks of a page in one namespace, which it returns."""
    names = {}
    for block in get_blocks(page):
        execute(block, folder, names)
    return names


def test_every_page_has_code():
    assert all(get_blocks(f"docs/{page}") for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_promises(page, tmp_path):
    run(f"docs/{page}", tmp_path)
