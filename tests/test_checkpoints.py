"""Files are written atomically, and a checkpoint of another model is refused."""

import hashlib
import json
import os
import random
import shutil
import stat

import numpy as np
import pytest
import tensorflow as tf

from tfreg.training import checkpoints, files, manifests


class Values(tf.Module):
    """Three variables of two shapes, all with the same value."""

    def __init__(self, value, width=2):
        self.kernel = tf.Variable(tf.fill([width, 3], value), name="kernel")
        self.bias = tf.Variable(tf.fill([3], value), name="bias")
        self.step = tf.Variable(int(value), name="step", dtype=tf.int64)

    def get_values(self):
        return {float(x) for v in self.variables for x in np.ravel(v.numpy())}


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


def save(folder, step, model, optimizer, **options):
    return checkpoints.save(
        folder, step, {"model": model, "optimizer": optimizer}, **options
    )


def restore(folder, model, optimizer, **options):
    state = {"model": model, "optimizer": optimizer}
    return checkpoints.restore(folder, state, **options)[0]


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("call", ["mkstemp", "open", "fsync", "chmod", "replace"])
@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_cannot_be_written_leaves_what_was_there(
    tmp_path, monkeypatch, call, there
):
    path = tmp_path / "result.json"
    if there:
        path.write_text("old")
    place = {"mkstemp": files.tempfile, "open": files}.get(call, os)
    monkeypatch.setattr(place, call, fail, raising=False)
    with pytest.raises(OSError, match=r"result.json' must be written, got No space"):
        files.write(path, "new")
    monkeypatch.undo()
    assert list_files(tmp_path) == ["result.json"] * there
    assert not there or path.read_text() == "old"


def test_a_file_that_a_full_disk_cuts_short_leaves_what_was_there(
    tmp_path, monkeypatch
):
    path = tmp_path / "result.json"
    path.write_text("old")

    class Full:
        def __init__(self, descriptor, mode):
            self.file = os.fdopen(descriptor, mode)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, text):
            self.file.write(text[:3])
            fail()

    monkeypatch.setattr(files, "open", Full, raising=False)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "new text")
    assert list_files(tmp_path) == ["result.json"]
    assert path.read_text() == "old"


def test_bytes_are_written_as_they_are(tmp_path):
    files.write(tmp_path / "a.png", b"\x89PNG\r\n")
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG\r\n"


def test_ctrl_c_while_a_file_is_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_text("old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, "new")
    assert list_files(tmp_path) == ["result.json"]
    assert path.read_text() == "old"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, calls = tmp_path / "result.json", []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("sync folder" if is_folder else "sync file")
        fsync(descriptor)

    def note_replace(*args):
        calls.append("rename")
        replace(*args)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    files.write(path, "new")
    assert calls == ["sync file", "rename", "sync folder"]
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_was_saved_is_restored_with_its_step(tmp_path):
    save(tmp_path, 7, Values(1.0), Values(2.0))
    path = save(tmp_path, 12, Values(3.0), Values(4.0))
    model, optimizer = Values(0.0), Values(0.0)
    assert restore(tmp_path, model, optimizer) == 12
    assert (model.get_values(), optimizer.get_values()) == ({3.0}, {4.0})
    assert sorted(os.listdir(tmp_path)) == ["step-0000000007", "step-0000000012"]
    assert path == tmp_path / "step-0000000012"


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\\\\b", "a\n é"])
def test_a_directory_may_have_any_name(tmp_path, name):
    save(tmp_path / name, 7, Values(1.0), Values(2.0))
    model, optimizer = Values(0.0), Values(0.0)
    assert restore(tmp_path / name, model, optimizer) == 7
    assert (model.get_values(), optimizer.get_values()) == ({1.0}, {2.0})


def test_a_checkpoint_is_read_by_tensorflow_alone(tmp_path):
    path = save(tmp_path, 7, Values(1.5), Values(2.0))
    key = "model/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    read = tf.train.load_checkpoint(str(path / "state")).get_tensor(key)
    np.testing.assert_array_equal(read, np.full([2, 3], 1.5))


@pytest.mark.parametrize("step", [7, 12])
@pytest.mark.parametrize("call", ["rename", "fsync"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path, monkeypatch, step, call, at
):
    save(tmp_path, 7, Values(1.0), Values(1.0))
    real, count = getattr(os, call), []

    def fail_at(*args):
        count.append(args)
        return fail() if len(count) == at else real(*args)

    monkeypatch.setattr(os, call, fail_at)
    try:
        save(tmp_path, step, Values(2.0), Values(2.0))
        value, found = 2.0, step
    except OSError as error:
        assert f"step-{step:010d}' must be written, got No space" in str(error)
        value, found = 1.0, 7
        if call == "fsync" and at == 5:  # The last: the new one has its name.
            value, found = 2.0, step
    monkeypatch.undo()
    model, optimizer = Values(0.0), Values(0.0)
    assert restore(tmp_path, model, optimizer) == found
    assert model.get_values() == optimizer.get_values() == {value}
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_save_left_is_ignored_and_removed(tmp_path):
    save(tmp_path, 7, Values(1.0), Values(1.0))
    (tmp_path / ".aside").mkdir()
    (tmp_path / ".aside" / "state.index").write_text("half")
    model = Values(0.0)
    assert restore(tmp_path, model, Values(0.0)) == 7
    save(tmp_path, 8, model, model)
    assert list_files(tmp_path) == [
        f"step-000000000{step}{name}"
        for step in (7, 8)
        for name in ("", "/manifest.json", "/state.data-00000-of-00001", "/state.index")
    ]


def test_a_step_is_saved_again_and_again_after_kills(tmp_path):
    for value in (1.0, 2.0, 3.0):
        path = save(tmp_path, 7, Values(value), Values(value))
        shutil.copytree(path, tmp_path / "old-step-0000000007")
    model = Values(0.0)
    assert restore(tmp_path, model, Values(0.0)) == 7
    assert model.get_values() == {3.0}
    shutil.rmtree(path)
    assert restore(tmp_path, model, Values(0.0)) == 7


def damage(data, kind, rng):
    data, at = bytearray(data), rng.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    else:
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    return bytes(data)


@pytest.mark.parametrize("kind", ["flip", "cut", "zeros"])
@pytest.mark.parametrize(
    "name", ["state.index", "state.data-00000-of-00001", "manifest.json"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, kind, name):
    save(tmp_path, 7, Values(1.0), Values(1.0))
    path = save(tmp_path, 8, Values(2.0), Values(2.0)) / name
    whole, rng, count = path.read_bytes(), random.Random(0), 0
    for _ in range(60):
        path.write_bytes(damage(whole, kind, rng))
        logged, model, optimizer = [], Values(0.0), Values(0.0)
        step = restore(tmp_path, model, optimizer, log=logged.append)
        assert model.get_values() == optimizer.get_values() == {step - 6.0}
        count += step == 7
        if step == 7:
            assert "step-0000000008" in logged[0] and "\n" not in logged[0]
        else:  # What was cut or zeroed was a last newline or zeros before.
            manifests.verify(path.parent)
    assert count > 30


def test_a_bit_of_any_byte_that_flips_is_noticed(tmp_path):
    path = save(tmp_path, 8, Values(2.0), Values(2.0))
    for name in ("state.index", "manifest.json"):
        whole = (path / name).read_bytes()
        for at in range(len(whole) - 1):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << at % 8
            (path / name).write_bytes(flipped)
            with pytest.raises(manifests.CheckpointError, match="as they were"):
                manifests.verify(path)
        (path / name).write_bytes(whole)
    manifests.verify(path)


def test_only_whole_checkpoints_are_counted_when_old_ones_go(tmp_path):
    save(tmp_path, 1, Values(1.0), Values(1.0))
    broken = save(tmp_path, 2, Values(1.0), Values(1.0))
    (broken / "state.index").write_bytes(b"")
    save(tmp_path, 3, Values(1.0), Values(1.0))
    names = [path.name[-1] for path in manifests.list_newest_first(tmp_path)]
    assert names == ["3", "2", "1"]
    save(tmp_path, 4, Values(1.0), Values(1.0))
    names = [path.name[-1] for path in manifests.list_newest_first(tmp_path)]
    assert names == ["4", "3"]


@pytest.mark.parametrize("kind", ["link", "more", "renamed"])
def test_a_checkpoint_that_was_tampered_with_is_refused(tmp_path, kind):
    path = save(tmp_path, 7, Values(1.0), Values(1.0))
    if kind == "link":
        (path / "state.index").rename(tmp_path / "elsewhere")
        (path / "state.index").symlink_to(tmp_path / "elsewhere")
    elif kind == "more":
        (path / "state.data-00001-of-00002").write_bytes(b"")
    else:
        path.rename(tmp_path / "step-0000000009")
    with pytest.raises(manifests.CheckpointError, match="must have an intact"):
        restore(tmp_path, Values(0.0), Values(0.0))


def test_metadata_comes_back(tmp_path):
    metadata = {"sums": {"loss": 0.1 + 0.2}, "best": None}
    save(tmp_path, 7, Values(1.0), Values(1.0), metadata=metadata)
    state = {"model": Values(0.0), "optimizer": Values(0.0)}
    assert checkpoints.restore(tmp_path, state) == (7, metadata)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Values(0.0, width=5), "incompatible tensor with shape"),
        (tf.Module, "Unresolved object in checkpoint"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, make, reason):
    save(tmp_path, 7, Values(1.0), Values(1.0))
    with pytest.raises(manifests.CheckpointError, match=f"step-0000000007.*{reason}"):
        restore(tmp_path, make(), Values(0.0))


def test_a_variable_that_the_checkpoint_lacks_is_refused(tmp_path):
    save(tmp_path, 7, Values(1.0), Values(1.0))
    model = Values(0.0)
    model.more = tf.Variable(0.0)
    with pytest.raises(manifests.CheckpointError, match="not bound to checkpointed"):
        restore(tmp_path, model, Values(0.0))


def test_a_missing_checkpoint_is_refused_whatever_lies_around(tmp_path):
    (tmp_path / "step-12").mkdir()
    (tmp_path / ".aside").mkdir()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere"')
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "checkpoint"):
        with pytest.raises(manifests.CheckpointError, match="got none in") as caught:
            restore(folder, Values(0.0), Values(0.0))
        assert str(folder) in str(caught.value)


def test_a_lost_file_is_refused(tmp_path):
    path = save(tmp_path, 7, Values(1.0), Values(1.0))
    shutil.rmtree(path)
    path.mkdir()
    with pytest.raises(manifests.CheckpointError, match="must have an intact"):
        restore(tmp_path, Values(0.0), Values(0.0))


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ({"../secret": "0" * 64}, "missing"),
        ({"/etc/passwd": "0" * 64}, "missing"),
        ([], "not a manifest"),
        ({"pipe": "0" * 64}, "not a regular file"),
    ],
)
def test_a_manifest_of_somebody_else_reads_nothing_outside(tmp_path, listed, reason):
    path = tmp_path / "step-0000000007"
    path.mkdir()
    (tmp_path / "secret").write_text("secret")
    text = json.dumps({"step": 7, "facts": {}, "files": listed})
    seal = hashlib.sha256(text.encode()).hexdigest()  # Whoever writes can seal.
    (path / "manifest.json").write_text(f"{text}\n{seal}\n")
    if "pipe" in listed:
        os.mkfifo(path / "pipe")
    with pytest.raises(manifests.CheckpointError, match=reason):
        manifests.verify(path)
