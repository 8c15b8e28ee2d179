"""Whatever stands on the command line or in a file: a sentence, and nothing written."""

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import random
import re

import faults
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tfreg.runs import config

NUM_LINES = 5000 if faults.WHOLE else 150
NUM_FILES = 2000 if faults.WHOLE else 100
NUM_CONFIGS = 1000 if faults.WHOLE else 100

NAMES = list(json.loads(config.Config().to_json()))
NAMES += ["config", "overwrite", "resume", "run", "dry_run", "help", "epoch", "v", ""]
VALUES = ["0", "1", "-1", "3", "1e-4", "1e999", "nan", "inf", "none", "l1", "l2", "npz"]
VALUES += ["kernel", "bias,activity", "l2(1e-4)@kernel", "l1(1)@activity:dense_0", ";"]
VALUES += ["../x", "/", "/dev/zero", "/proc/self/mem", ".", "8,8", "relu", "adam", "5s"]
VALUES += ["float16", "cosine", "true", "1" * 400, "\0", "\udcff", "٣", "x" * 5000]
ARGUMENTS = st.builds(
    lambda form, name, value: form.format(name=name, value=value),
    st.sampled_from(["--{name}={value}", "--{name}={value}", "--{name}", "--no{name}"]),
    st.sampled_from(NAMES),
    st.sampled_from(VALUES) | st.text(max_size=12),
)


def hash_all(folder):
    """Returns a digest of everything below a directory."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def check_line(folder, argv):
    """Runs a command line, and checks its end; returns its status and last line."""
    before = hash_all(folder)
    # As Python's own, and unlike pytest's: an argument need not be UTF-8.
    shown = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    quiet = contextlib.redirect_stdout(io.StringIO())
    with contextlib.redirect_stderr(shown), quiet:
        status = faults.train_with(argv)
    shown.seek(0)
    err = shown.read()
    assert status in faults.STATUSES and "Traceback" not in err
    # Before it may stand what isn't as it seems in the data.
    last = ["", *err.splitlines()][-1]
    if status:
        assert last.startswith("error: ") and not re.search("^error: .*\n.", err), err
    assert hash_all(folder) == before
    return status, last


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Returns the working directory, with data and a run of another."""
    faults.write_points(tmp_path / "points.npz")
    (tmp_path / "runs" / "b").mkdir(parents=True)
    text = config.Config(dataset="npz", run_name="b").to_json()
    (tmp_path / "runs" / "b" / "config.json").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_fuzzed_flags(folder):
    usual = ["--dataset=npz", f"--data_dir={folder / 'points.npz'}", "--hidden=4"]
    statuses = []

    @hypothesis.settings(
        max_examples=NUM_LINES, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(st.lists(ARGUMENTS, min_size=1, max_size=4))
    def run(arguments):
        # Several workers would wait for each other.
        hypothesis.assume(not any("multi_worker" in a for a in arguments))
        # Twice: the first may be the value of a flag that has none.
        argv = [*usual, *arguments, "--dry_run", "--dry_run"]
        statuses.append(check_line(folder, argv)[0])

    run()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    assert {0, 2} <= counts.keys()
    print(f"\n{len(statuses)} command lines; how often each exit status: {counts}")


def make_files():
    """Returns the bytes of good data: of an .npz, and of four idx files."""
    arrays = np.load("points.npz")
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)
    np.savez_compressed(packed, **arrays)
    idx = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        x = (arrays[f"x_{part}"] * 9).astype(np.uint8).reshape(-1, 2, 1)
        head = bytes([0, 0, 8, 3]) + np.array(x.shape, ">i4").tobytes()
        idx[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(head + x.tobytes())
        y = arrays[f"y_{part}"].astype(np.uint8)
        head = bytes([0, 0, 8, 1]) + np.array(y.shape, ">i4").tobytes()
        idx[f"{stem}-labels-idx1-ubyte"] = head + y.tobytes()
    return [plain.getvalue(), packed.getvalue()], idx


def mutate(content, rng):
    """Returns bytes with a few of them changed, cut out, doubled or put in."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(content) + 1)
        length = rng.choice([1, 1, 2, 8, 100])
        change = rng.randrange(4)
        if change == 0:
            content[place : place + length] = rng.randbytes(length)
        elif change == 1:
            del content[place : place + length]
        elif change == 2:
            content[place:place] = content[place : place + length]
        else:
            content[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4)])
    return bytes(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what ast says about a mutated header
def test_mutated_data(folder):
    archives, idx = make_files()
    rng, statuses = random.Random(0), []
    (folder / "idx").mkdir()
    for number in range(NUM_FILES):
        if number % 3:
            place, kind = folder / "mutated.npz", "npz"
            place.write_bytes(mutate(archives[number % 3 - 1], rng))
        else:
            place, kind = folder / "idx", "idx"
            for name, content in idx.items():
                (place / name).write_bytes(content)
            name = rng.choice(sorted(idx))
            (place / name).write_bytes(mutate(idx[name], rng))
        argv = [f"--dataset={kind}", f"--data_dir={place}", "--hidden=4", "--dry_run"]
        statuses.append(check_line(folder, argv)[0])
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    assert 3 in counts
    print(f"\n{len(statuses)} data files; how often each exit status: {counts}")


def make_tables(folder):
    """Writes data of each kind; returns the file to damage, its flags, good bytes."""
    import tensorflow as tf

    rows = [f"{i / 7:.3f},{'uvw'[i % 3]},{i % 5},{i % 2}\n" for i in range(40)]
    table = ("a,b,c,y\n" + "".join(rows)).encode()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    images = [tf.io.encode_png(pixels).numpy(), tf.io.encode_jpeg(pixels).numpy()]
    for kind in ("cat", "dog"):
        (folder / "pets" / kind).mkdir(parents=True)
        for i in range(3):
            (folder / "pets" / kind / f"{i}.png").write_bytes(images[0])
    records = folder / "rows.tfrecord"
    with tf.io.TFRecordWriter(str(records)) as writer:
        for i in range(40):
            x = tf.train.FloatList(value=[i / 7, i % 5])
            city = tf.train.BytesList(value=[b"u", b"v"][i % 2 : i % 2 + 1])
            features = {
                "x": tf.train.Feature(float_list=x),
                "city": tf.train.Feature(bytes_list=city),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 2])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    spec = "--features=x:float32[2],city:string,y:int64"
    of_records = [f"--data={records.name}", spec, "--target=y"]
    return {
        "table": (folder / "table.csv", ["--data=table.csv", "--target=y"], [table]),
        "image": (folder / "pets" / "dog" / "1.png", ["--data=pets"], images),
        "records": (records, of_records, [records.read_bytes()]),
    }


def is_located(message, name):
    """Returns whether a message names the file, or a column and perhaps its row."""
    return name in message or "`" in message


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "image", "records"])
def test_mutated_tables_images_and_records(kind, folder):
    place, flags, contents = make_tables(folder)[kind]
    rng, statuses, unnamed = random.Random(2), [], set()
    flags += ["--hidden=4", "--strategy=one", "--compile=graph"]
    for number in range(NUM_FILES // 3):
        content = contents[number % len(contents)]
        place.write_bytes(mutate(content, rng) if number else content)
        status, message = check_line(folder, [*flags, "--dry_run"])
        statuses.append(status)
        if status:  # So it is without --dry_run, and nothing is written either.
            assert check_line(folder, flags) == (status, message)
            if not is_located(message, place.name):
                unnamed.add(message)
    assert not unnamed
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    assert {0, 3} <= counts.keys()
    print(f"\n{len(statuses)} of {kind}; how often each status: {counts}")


@pytest.mark.slow
def test_mutated_configs(folder):
    rng, statuses = random.Random(1), []
    text = config.Config(dataset="npz", data_dir="points.npz", hidden=(4,)).to_json()
    mutated = (mutate(text.encode(), rng) for _ in range(NUM_CONFIGS))
    for content in itertools.chain([text.encode()], mutated):
        (folder / "config.json").write_bytes(content)
        # What a number became may be a network that no memory holds.
        argv = ["--config=config.json", "--dry_run", "--hidden=4", "--strategy=one"]
        statuses.append(check_line(folder, argv)[0])
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    assert {0, 4} <= counts.keys()
    print(f"\n{len(statuses)} configs; how often each exit status: {counts}")
