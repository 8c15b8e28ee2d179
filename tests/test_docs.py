"""README.md and docs/ are true: their code runs, and prints what the comments say."""

import ast
import contextlib
import functools
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import tf1_originals
import yaml
from absl import flags

import tfreg
from tfreg import tf1
from tfreg.cli import commandline, train
from tfreg.runs import config
from tfreg.training import strategies

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def get_blocks(page, language="python"):
    """Returns the code blocks of a page, except those of TF1."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", read(page), re.M | re.S)
    return [block for block in blocks if "tensorflow.contrib" not in block]


def execute(code, folder, names):
    """Runs a block, and compares its output with its comments."""
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


@pytest.mark.parametrize("status", [0, 3, 75, 143])
def test_the_script_for_slurm_queues_again_what_may_go_on(tmp_path, status):
    (script,) = get_blocks("docs/replicas.md", "slurm")
    (tmp_path / "job").write_text(script, encoding="utf-8")
    for name, line in {"srun": f"exit {status}", "scontrol": ""}.items():
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >> called\n{line}\n')
        stub.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SLURM_JOB_ID": "17"}
    ended = subprocess.run(["bash", "job", "--reg=l2"], cwd=tmp_path, env=environment)
    assert ended.returncode == status
    called = (tmp_path / "called").read_text().splitlines()
    assert called[0].startswith("srun tfreg train") and "--reg=l2" in called[0]
    assert called[1:] == ["scontrol requeue 17"] * (status > 100 or status == 75)


def read_manifests():
    """Returns the pod, its number of copies and the object of each manifest."""
    loaded = map(yaml.safe_load_all, get_blocks("docs/replicas.md", "yaml"))
    (service, job), (tfjob,) = map(list, loaded)
    worker = tfjob["spec"]["tfReplicaSpecs"]["Worker"]
    pods = [job["spec"]["template"]["spec"], worker["template"]["spec"]]
    return service, job, tfjob, *pods


def test_the_manifests_restart_what_may_go_on():
    service, job, tfjob, pod, own = read_manifests()
    assert (job["apiVersion"], tfjob["apiVersion"]) == ("batch/v1", "kubeflow.org/v1")
    selected = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert service["spec"]["selector"] == selected
    assert service["metadata"]["name"] == pod["subdomain"]
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == 2
    # Kubernetes takes a podFailurePolicy with Never alone, and sorted values.
    assert pod["restartPolicy"] == "Never"
    (rule,) = spec["podFailurePolicy"]["rules"]
    codes = rule["onExitCodes"]
    assert (rule["action"], codes["operator"]) == ("FailJob", "In")
    rows = re.findall(r"^\| ([\d, ]+) \| .* \| no \|$", read("docs/replicas.md"), re.M)
    assert codes["values"] == sorted({int(n) for n in ",".join(rows).split(",")} - {0})
    assert tfjob["spec"]["tfReplicaSpecs"]["Worker"]["restartPolicy"] == "OnFailure"
    assert own["containers"][0]["name"] == "tensorflow"  # The operator's rule.
    for each in (pod, own):
        (container,), (volume,) = each["containers"], each["volumes"]
        assert [m["name"] for m in container["volumeMounts"]] == [volume["name"]]


def test_the_commands_of_the_manifests_are_understood(tmp_path, monkeypatch):
    *_, pod, own = read_manifests()
    (tmp_path / "tfreg").write_text('#!/bin/sh\necho "$TF_CONFIG"; echo "$@"\n')
    (tmp_path / "tfreg").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for each in (pod, own):
        (container,) = each["containers"]
        command = [*container["command"], *container["args"]]
        for i in range(2):
            environment["JOB_COMPLETION_INDEX"] = str(i)
            printed = subprocess.check_output(command, text=True, env=environment)
            *configured, words = printed.splitlines()
            text = "".join(configured)
            if each is pod:
                monkeypatch.setenv("TF_CONFIG", text)
                assert json.loads(text)["task"] == {"type": "worker", "index": i}
                assert strategies.is_first() == (i == 0)
            assert words.split()[0] == "train"
            values = flags.FlagValues()
            train.define(values)
            commandline.parse(values, words.split())
            settings = commandline.make_config(values, config.Config())
            assert settings.strategy == "multi_worker" and values["resume"].value
            assert settings.logdir == container["volumeMounts"][0]["mountPath"]


def test_readme_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks").mkdir()
    first, second = get_blocks("README.md")
    # The first loss of ten classes is about log(10) = 2.3.
    names = {}
    assert 0.05 < float(execute(first, tmp_path / "blocks", names)) < 1.15
    printed = execute(second, tmp_path / "blocks", names).splitlines()
    assert ast.literal_eval(printed[-1])["accuracy"] > 0.85
    assert (tmp_path / "runs" / "mine" / "result.json").is_file()


def test_readme_has_at_most_900_words():
    assert len(read("README.md").split()) <= 900


def test_readme_has_rows_of_the_table_of_traps():
    def get_rows(page):
        lines = re.findall(r"^\| (.*) \|$", read(page), re.M)
        return [line.split(" | ") for line in lines]

    traps = {title: cells for title, *cells in get_rows("docs/traps.md")}
    rows = [row for row in get_rows("README.md") if len(row) == 3 and row[0] in traps]
    assert len(rows) == 5
    for title, plain, ours in rows:
        assert traps[title] == [plain, ours, ours]


def test_speeds_of_the_readme_are_those_of_the_tables():
    readme, page = " ".join(read("README.md").split()), read("docs/speed.md")
    text = re.search(r"## How fast (.*?)\[docs/speed", readme)[1]
    speeds = re.findall(r"\b(?:\d,\d{3}|\d{3})\b", text)
    assert len(speeds) == 3
    assert all(f"| {speed} |" in page for speed in speeds)
    assert f"{re.search(r'(4[.]6) times', text)[1]} times the steps" in page


@pytest.mark.parametrize(
    "page", ["README.md", "BUILD.md", *(f"docs/{p}" for p in PAGES)]
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", read(page))
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link


def test_citation_has_the_version():
    assert f"\nversion: {tfreg.__version__}\n" in read("CITATION.cff")


def read_port():
    """Returns the page's script, its port, its last function and the report."""
    page = read("docs/porting.md")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    return [*blocks[:3], *get_blocks("docs/porting.md", "text")]


def test_the_script_becomes_what_is_shown(tmp_path):
    before, after, _, report = read_port()
    (tmp_path / "train.py").write_text(before)
    command = [sys.executable, str(ROOT / "scripts" / "port.py"), "train.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout.partition("\n\ndef train(")[0] == after
    assert done.stderr == report


def test_both_scripts_train_alike(mended_slim, rng):
    before, after, by_hand, _ = read_port()
    batches = [
        (rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8))
        for _ in range(10)
    ]

    def start_alike(source):
        regularizer = "weights_regularizer="
        assert regularizer in source
        initializer = "weights_initializer=tf.constant_initializer(0.1), "
        return source.replace(regularizer, initializer + regularizer)

    with tf1_originals.graph():
        expected = tf1_originals.load(start_alike(before)).train(batches)
    ported = types.ModuleType("ported")
    exec(compile(start_alike(after + by_hand), "ported", "exec"), ported.__dict__)
    # Float32.
    np.testing.assert_allclose(ported.train(batches), expected, rtol=1e-6)


def get_attribute(path):
    first, *parts = path.split(".")
    return functools.reduce(getattr, parts, {"tfreg": tfreg, "tf1": tf1}[first])


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_every_name_exists(page):
    for name in re.findall(r"\b((?:tf1|tfreg)\.[a-zA-Z_][\w.]*\w)\b", read(page)):
        get_attribute(name.removesuffix(".X"))


def test_every_function_of_a_family_exists():
    rows = re.findall(
        r"\| `(tf1\.\w+)\.X`: (.*?)(?:;.*)? \|\n", read("docs/porting.md")
    )
    assert len(rows) == 6
    for family, words in rows:
        words = re.sub(r"\(.*?\)", "", words)
        for word in re.findall(r"\b\w+", words):
            assert hasattr(get_attribute(family), word), f"{family}.{word}"
