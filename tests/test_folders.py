"""Folders of images: parts, sizes, classes, predictions, export, and damage."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, runs
from tfreg.cli import commands
from tfreg.runs import config


def write_images(folder, count=12, size=(9, 7), kinds=("cat", "dog", "emu")):
    """Writes PNGs and JPEGs that are brighter for later classes."""
    rng = np.random.default_rng(0)
    for k, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            x = rng.integers(0, 60, (*size, 3)) + 80 * k
            encode = tf.io.encode_png if i % 3 else tf.io.encode_jpeg
            path = folder / kind / f"{i:02}.{'png' if i % 3 else 'JPG'}"
            path.write_bytes(encode(np.uint8(x)).numpy())
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "pets")


@pytest.fixture(scope="module")
def trained(folder):
    settings = config.Config(
        data=str(folder),
        image_size="8x6",
        hidden=(8,),
        epochs=3,
        strategy="one",
        compile="graph",
        logdir=str(folder.parent),
        run_name="run",
    )
    runs.train(settings)
    return folder.parent / "run"


def test_parts_are_drawn_or_given(folder, tmp_path):
    drawn = data.load_folder(folder)
    assert [len(s) for s in (drawn.train, drawn.validation, drawn.test)] == [28, 4, 4]
    assert drawn.train.x.shape[1:] == (9, 7, 3) and drawn.train.x.dtype == np.uint8
    assert drawn.num_classes == 3 and drawn.task.classes == ("cat", "dog", "emu")
    whole = data.load_images(folder)
    # The parts together are all of the images.
    parts = np.concatenate([drawn.train.x, drawn.validation.x, drawn.test.x])
    assert sorted(map(bytes, parts)) == sorted(map(bytes, whole.x))
    write_images(tmp_path / "train", 10)
    write_images(tmp_path / "test", 4)
    given = data.load_folder(tmp_path)
    sizes = [len(s) for s in (given.train, given.validation, given.test)]
    assert sizes == [27, 3, 12]
    write_images(tmp_path / "val", 5)
    given = data.load_folder(tmp_path)
    sizes = [len(s) for s in (given.train, given.validation, given.test)]
    assert sizes == [30, 15, 12]


def test_a_run_predicts_files_and_arrays_alike(folder, trained):
    run = tfreg.load_run(trained)
    files = list(run.predict_file(folder))
    resized = data.load_images(folder, (8, 6))
    got = run.predict(resized.x)
    np.testing.assert_array_equal(np.concatenate([p.values for p in files]), got.values)
    assert set(got.labels) <= {"cat", "dog", "emu"}
    accuracy = np.mean(got.labels == np.array(["cat", "dog", "emu"])[resized.y])
    assert run.evaluate(folder)["accuracy"] == pytest.approx(accuracy)
    rest = list(run.predict_file(folder, start=30))
    np.testing.assert_allclose(rest[0].values, got.values[30:], 1e-5)


def test_what_is_exported_takes_pixels(folder, trained, tmp_path):
    run, x = tfreg.load_run(trained), data.load_images(folder, (8, 6)).x
    want = run.predict(x)
    run.export(tmp_path / "saved")
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    outputs = serve(inputs=tf.constant(x))
    np.testing.assert_allclose(outputs["probabilities"], want.values, 1e-6, 1e-6)
    names = [name.decode() for name in outputs["names"].numpy()]
    assert names == want.labels.tolist()
    run.export(tmp_path / "model.tflite", "tflite")
    lite = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    outputs = lite(inputs=x)["probabilities"]
    np.testing.assert_allclose(outputs, want.values, 1e-6, 1e-6)


def test_two_classes_may_be_binary(tmp_path):
    write_images(tmp_path / "pets", kinds=("cat", "dog"))
    loaded = data.load_folder(tmp_path / "pets", task="binary")
    assert loaded.num_classes is None and loaded.train.y.shape[1:] == (1,)
    with pytest.raises(data.DataError, match="must have two classes, got 3"):
        write_images(tmp_path / "pets" / "x", kinds=())
        (tmp_path / "pets" / "emu").mkdir(parents=True)
        shutil.copy(tmp_path / "pets/cat/01.png", tmp_path / "pets/emu")
        data.load_folder(tmp_path / "pets", task="binary")


def call(*argv):
    return commands.main(["tfreg", *map(str, argv)])


@pytest.mark.parametrize(
    ("damage", "argv", "message"),
    [
        (b"", [], "05.png' must be an image"),
        (b"\x89PNG\r\n\x1a\nxx", [], "05.png' must be an image"),
        (None, ["--image_size=0x3"], "image_size must be HEIGHTxWIDTH"),
        (None, ["--target=y"], "target must not be used with a folder"),
        (None, ["--task=regression"], "must have classes and fractions"),
    ],
)
def test_damage_is_one_sentence_and_writes_nothing(
    damage, argv, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pets", 8, kinds=("cat", "dog"))
    if damage is not None:
        (tmp_path / "pets" / "dog" / "05.png").write_bytes(damage)
    assert call("train", "--data=pets", *argv) in (2, 3)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_images_or_of_another_class_is_refused(trained, tmp_path):
    run = tfreg.load_run(trained)
    with pytest.raises(data.DataError, match="got none in"):
        list(run.predict_file(tmp_path))
    with pytest.raises(data.DataError, match="got yak"):
        run.evaluate(write_images(tmp_path / "new", 3, kinds=("cat", "yak")))
