"""Bad input to training: one sentence, and the state after the last whole step."""

import os

import feeds
import numpy as np
import pytest
import tensorflow as tf

from tfreg import data, losses, models, optimizers
from tfreg.training import loop, recovery, step

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def arrays():
    return feeds.make_arrays()


@pytest.fixture(scope="module")
def compare(arrays):
    """Returns a function: asserts that a loop has done so many faultless steps."""
    want = feeds.make_loop(feeds.make_source("pipeline", arrays), steps_per_call=1)
    reports, states = want.iterate(0), []
    for _ in range(want.steps_per_epoch + 1):
        states.append((feeds.get_values(want), want.sums.count))
        next(reports, None)

    def check(made, steps):
        assert int(made.step.optimizer.step) == steps
        feeds.assert_same_bits(feeds.get_values(made), states[steps][0])
        assert made.sums.count == states[steps][1]

    return check


def check_sentence(info):
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 500


def make_generated(arrays, last):
    """Returns a Pipeline whose second reading yields something else at step 3."""
    batches = list(feeds.batch(arrays, feeds.SEED, 0).as_numpy_iterator())

    def make(seed, epoch):
        def generate():
            yield from batches[:3]
            if last is not None:
                yield last(batches[3])

        signature = (
            tf.TensorSpec([None, 6, 6, 3], tf.float32),
            tf.TensorSpec([None, 1], tf.float32),
        )
        return tf.data.Dataset.from_generator(generate, output_signature=signature)

    return data.Pipeline(make, steps=6)


def narrow(batch):
    return batch[0][:, :5], batch[1]


SHORT = None, r"got no more.*\(after step 3\)"
SHAPE = narrow, r"readable, got .*shape.*\(after step 3\)"


@pytest.mark.parametrize(
    ("last", "message", "steps_per_call"),
    [(*SHORT, 1), (*SHORT, 6), (*SHAPE, 2), (*SHAPE, 6)],
)
def test_a_generator_that_fails_leaves_the_last_whole_step(
    arrays, compare, last, message, steps_per_call
):
    made = feeds.make_loop(make_generated(arrays, last), steps_per_call=steps_per_call)
    with pytest.raises(data.DataError, match=message) as info:
        made.train(0)
    check_sentence(info)
    compare(made, 3)


def test_a_generator_that_ends_early_on_two_replicas_says_so(arrays, two_replicas):
    made = feeds.make_loop(make_generated(arrays, None), two_replicas)
    with pytest.raises(data.DataError, match=r"got no more.*\(after step 3\)"):
        made.train(0)
    assert made.step.optimizer.step.numpy() == 3


class Source(list):
    """Examples of which some can't be read."""

    broken = ()
    length = None

    def __len__(self):
        return self.length or super().__len__()

    def __getitem__(self, row):
        if row in self.broken:
            raise OSError("the disk is gone")
        return super().__getitem__(row)


def test_an_example_that_cannot_be_read_is_named_after_the_steps_before(
    arrays, compare
):
    source = Source(zip(*arrays, strict=True))
    made = feeds.make_loop(data.Indexed(source))
    made._feed._count_block = lambda: 2 * feeds.BATCH
    bad = int(data.permute(feeds.COUNT, feeds.SEED, 0)[4 * feeds.BATCH])
    source.broken = (bad,)
    with pytest.raises(data.DataError, match=rf"source\[{bad}\].*disk is gone") as info:
        made.train(0)
    check_sentence(info)
    compare(made, 4)
    source.broken = ()  # Repaired: it goes on where it stopped.
    list(made.iterate(0, 4, made.sums))
    compare(made, 6)


def test_a_source_that_changes_its_length_is_refused(arrays, compare):
    source = Source(zip(*arrays, strict=True))
    made = feeds.make_loop(data.Indexed(source))
    source.length = 40
    with pytest.raises(data.DataError, match="must keep its 45 examples, got 40"):
        made.train(0)
    compare(made, 0)


def test_an_image_that_cannot_be_decoded_is_named_by_its_path(tmp_path, rng):
    for i in range(8):
        folder = tmp_path / str(i % 2)
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        tf.io.write_file(str(folder / f"{i}.png"), tf.io.encode_png(pixels))
    source = data.Indexed(data.images(tmp_path))
    model = models.MLP([2], seed=0)
    loss = losses.sparse_softmax_cross_entropy
    made = loop.Loop(step.Step(model, loss, optimizers.sgd(0.1)), source, 4)
    (tmp_path / "1" / "5.png").write_bytes(b"no image")
    before = [v.numpy() for v in model.variables]
    with pytest.raises(data.DataError, match=r"1/5\.png' must be an image") as info:
        made.train(0)
    assert "\n" not in str(info.value)
    feeds.assert_same_bits([v.numpy() for v in model.variables], before)


@pytest.mark.parametrize(
    ("kind", "steps_per_call", "replicas"),
    [
        ("held", 1, 1),
        ("blocks", 6, 1),
        ("indexed", 6, 1),
        ("pipeline", 1, 1),
        ("held", 6, 2),
        ("blocks", 1, 2),
        ("indexed", 6, 2),
        ("pipeline", 6, 2),
    ],
)
def test_nan_in_a_batch_names_its_examples_and_is_not_applied(
    arrays, compare, kind, steps_per_call, replicas, two_replicas
):
    order = data.permute(feeds.COUNT, feeds.SEED, 0)
    bad = sorted(map(int, order[[3 * feeds.BATCH + 1, 3 * feeds.BATCH + 6]]))
    x = arrays[0].copy()
    x[bad, 2, 2] = np.nan
    source = feeds.make_source(kind, (x, arrays[1]))
    options = feeds.options_of(kind) | {"steps_per_call": steps_per_call}
    made = feeds.make_loop(source, two_replicas if replicas == 2 else None, **options)
    with pytest.raises(
        recovery.LossError, match="must be finite, got nan at step 4"
    ) as info:
        made.train(0)
    check_sentence(info)
    assert "have NaN or infinity in x, places [2, 2, 0], [2, 2, 1], " in str(info.value)
    if kind == "pipeline":
        assert "examples 1, 6 of batch 3 have NaN" in str(info.value)
    else:
        assert all(str(number) in str(info.value) for number in bad)
        assert "of batch" not in str(info.value)
    if replicas == 1:
        compare(made, 3)
    else:
        assert made.step.optimizer.step.numpy() == 3
        assert all(np.isfinite(v).all() for v in feeds.get_values(made))


@pytest.mark.parametrize("kind", ["indexed", "pipeline"])
def test_an_evaluation_of_another_structure_is_one_sentence(arrays, kind):
    made = feeds.make_loop(feeds.make_source("held", arrays))
    named = {"image": arrays[0]}, arrays[1]
    source = data.Split(*named)
    if kind == "pipeline":
        rows = tf.data.Dataset.from_tensor_slices(named).batch(5)
        source = data.Pipeline(lambda seed, epoch: rows)
    with pytest.raises((TypeError, ValueError), match="source must") as info:
        made.evaluate(source)
    check_sentence(info)


def test_an_empty_source_is_refused(arrays):
    made = feeds.make_loop(feeds.make_source("held", arrays))
    empty = data.Split(arrays[0][:0], arrays[1][:0])
    match = "source must have examples, fewer than .*, got none: pass some"
    with pytest.raises(ValueError, match=match):
        made.evaluate(empty)
    with pytest.raises(ValueError, match=match):
        loop.Loop(made.step, empty)
    with pytest.raises(ValueError, match="must return some batches, got 0"):
        data.Pipeline(lambda seed, epoch: feeds.batch(arrays, seed, epoch).take(0))


def test_more_examples_than_int32_counts_are_read_by_number_and_not_trained_on(
    arrays, tmp_path
):
    size, columns = 2**31 + 10, []
    for name, array in zip("xy", arrays[:2], strict=True):
        (tmp_path / name).touch()
        shape = size, *array.shape[1:]
        nbytes = array.dtype.itemsize * np.prod(shape, dtype=np.int64)
        os.truncate(tmp_path / name, nbytes)  # Of zeros, without blocks on the disk.
        columns.append(np.memmap(tmp_path / name, array.dtype, "r+", shape=shape))
        columns[-1][-1] = array[0]
    source = data.Indexed(tuple(columns))
    got = source.fetch(np.array([size - 1, 2**31 - 1, 0]))
    for part, array in zip(got, arrays[:2], strict=True):
        np.testing.assert_array_equal(part, [array[0], 0 * array[0], 0 * array[0]])
    made = feeds.make_loop(feeds.make_source("held", arrays))
    match = r"fewer than 2\*\*31, got 2147483658: pass a part of them"
    for run in (made.evaluate, lambda s: loop.Loop(made.step, s)):
        with pytest.raises(ValueError, match=match):
            run(source)


@pytest.mark.parametrize("source", [None, [1, 2], tf.data.Dataset.range(3)])
def test_what_is_no_source_is_refused(arrays, source):
    made = feeds.make_loop(feeds.make_source("held", arrays))
    for run in (made.evaluate, lambda s: loop.Loop(made.step, s)):
        with pytest.raises(
            TypeError, match="source must be a Split, Indexed or Pipeline"
        ):
            run(source)


def test_a_dataset_of_tensorflow_names_pipeline(arrays):
    made = feeds.make_loop(feeds.make_source("held", arrays))
    with pytest.raises(TypeError, match=r"write Pipeline\(make\), where make\(seed,"):
        loop.Loop(made.step, tf.data.Dataset.range(3))


def test_an_unknown_number_of_batches_is_refused(arrays):
    def make(seed, epoch):
        return feeds.batch(arrays, seed, epoch).filter(lambda x, y: True)

    with pytest.raises(ValueError, match="steps must be given for an unknown number"):
        data.Pipeline(make)
