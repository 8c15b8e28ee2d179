"""Examples on the device, in blocks, by number or from tf.data: the same training."""

import functools

import feeds
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data
from tfreg.data import augment
from tfreg.training import feeding

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def arrays():
    return feeds.make_arrays()


@pytest.fixture(scope="module")
def held(arrays):
    """Returns a function: mode -> what training on the device gives, once."""

    @functools.cache
    def get(mode="graph", augmented=False):
        options = {"augment": AUGMENTATIONS["list"]()} if augmented else {}
        source = feeds.make_source("held", arrays)
        return feeds.train(feeds.make_loop(source, compile=mode, **options))

    return get


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *((kind, "graph") for kind in feeds.KINDS),
        ("blocks", "xla"),
        ("pipeline", "xla"),
    ],
)
def test_every_source_gives_the_bits_of_examples_on_the_device(
    arrays, held, kind, mode
):
    made = feeds.make_loop(
        feeds.make_source(kind, arrays), compile=mode, **feeds.options_of(kind)
    )
    values, found = feeds.train(made)
    want, reports = held(mode)
    if (kind, mode) == ("pipeline", "xla"):  # Its step is another XLA program.
        for a, b in zip(values, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        return
    feeds.assert_same_bits(values, want)
    assert found == reports


@pytest.mark.parametrize("kind", ["held", "indexed", "pipeline"])
def test_two_replicas_are_one_device(arrays, held, kind, two_replicas):
    source = feeds.make_source(kind, arrays)
    values, found = feeds.train(
        feeds.make_loop(source, two_replicas, **feeds.options_of(kind))
    )
    want, reports = held()
    # Float32 sums in another order.
    for a, b in zip(values, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(found, reports, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [("held", 2), ("blocks", 1), ("indexed", 1), ("pipeline", 2)],
)
def test_a_start_in_mid_epoch_is_the_epochs_rest(arrays, kind, replicas, two_replicas):
    strategy = two_replicas if replicas == 2 else None
    source = feeds.make_source(kind, arrays)
    made = feeds.make_loop(source, strategy, **feeds.options_of(kind))
    reports = made.iterate(1)
    steps = next(reports).num_steps  # Fewer than asked for where a block ends.
    saved, sums = made._guard._copy_variables(), made.sums.to_json()
    rest = list(reports)
    want = feeds.get_values(made), rest[-1].get_scalars()
    again = feeds.make_loop(source, strategy, **feeds.options_of(kind))
    again._guard._restore_variables(saved)
    sums = type(made.sums).from_json(sums)
    last = list(again.iterate(1, steps, sums))[-1]
    feeds.assert_same_bits(feeds.get_values(again), want[0])
    assert last.get_scalars() == want[1]
    assert last.num_steps == made.steps_per_epoch


@pytest.mark.parametrize("kind", ["held", *feeds.KINDS])
def test_a_start_at_the_end_has_no_steps_and_one_beyond_is_refused(arrays, kind):
    made = feeds.make_loop(feeds.make_source(kind, arrays), **feeds.options_of(kind))
    assert list(made.iterate(0, made.steps_per_epoch)) == []
    with pytest.raises(ValueError, match="steps must be an int from 0 to 6, got 7"):
        list(made.iterate(0, 7))


@pytest.fixture(scope="module")
def evaluated(arrays):
    source = feeds.make_source("held", arrays)
    return feeds.make_loop(source).evaluate(source, batch_size=feeds.BATCH)


@pytest.mark.parametrize("kind", feeds.KINDS)
def test_evaluation_is_the_same_from_every_source(arrays, evaluated, kind):
    other = feeds.make_loop(feeds.make_source("held", arrays), **feeds.options_of(kind))
    source = feeds.make_source(kind, arrays)
    got = other.evaluate(source, batch_size=feeds.BATCH)
    scalars = evaluated.get_scalars()
    # A Pipeline's order is another; XLA and graph mode round alike here.
    tolerance = 1e-6 if kind == "pipeline" else 1e-12
    assert got.get_scalars() == pytest.approx(scalars, rel=tolerance)
    whole = other.evaluate(source, batch_size=feeds.COUNT).get_scalars()
    assert whole == pytest.approx(scalars, rel=1e-6)


AUGMENTATIONS = {
    "flip": lambda: augment.flip(),
    "crop": lambda: augment.crop(2),
    "cutout": lambda: augment.cutout(2),
    "mixup": lambda: augment.mixup(0.4),
    "list": lambda: [augment.flip(), augment.crop(1), augment.brightness(0.1)],
}


def spy(made):
    """Returns the list that each batch of the model is added to."""
    batches, finish = [], made._feed.finish

    def note(*args):
        finished = finish(*args)
        tf.numpy_function(lambda *parts: batches.append(parts), finished, [])
        return finished

    made._feed.finish = note
    return batches


def list_expected(arrays, name, epoch):
    """Returns the augmented batches, by the key of each example."""
    change = AUGMENTATIONS[name]()
    change = augment.chain(*change) if isinstance(change, list) else change
    order = data.permute(feeds.COUNT, feeds.SEED, epoch)
    for start in range(0, feeds.COUNT, feeds.BATCH):
        rows = order[start : start + feeds.BATCH]
        keys = tfreg.random.make_key(feeds.SEED, epoch, rows)
        yield change(tuple(tf.constant(a[rows]) for a in arrays), keys)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("held", "flip"),
        ("blocks", "crop"),
        ("indexed", "cutout"),
        ("held", "mixup"),
        ("blocks", "mixup"),
        ("indexed", "list"),
    ],
)
def test_an_augmented_batch_is_that_of_its_examples_keys(arrays, name, kind):
    made = feeds.make_loop(
        feeds.make_source(kind, arrays),
        augment=AUGMENTATIONS[name](),
        **feeds.options_of(kind),
    )
    batches = spy(made)
    made.train(2)
    wanted = list(list_expected(arrays, name, 2))
    assert len(batches) == len(wanted) == 6
    for got, want in zip(batches, wanted, strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)
    order = data.permute(feeds.COUNT, feeds.SEED, 2)
    assert (batches[0][0] != arrays[0][order[: feeds.BATCH]]).any()


@pytest.mark.parametrize("kind", ["blocks", "indexed"])
def test_training_with_augmentation_is_the_same_from_every_source(arrays, held, kind):
    options = feeds.options_of(kind) | {"augment": AUGMENTATIONS["list"]()}
    made = feeds.make_loop(feeds.make_source(kind, arrays), **options)
    values, reports = feeds.train(made)
    want, wanted = held(augmented=True)
    feeds.assert_same_bits(values, want)
    assert reports == wanted
    assert any((a != b).any() for a, b in zip(held()[0], want, strict=True))


@pytest.mark.parametrize("kind", ["blocks", "pipeline"])
def test_two_replicas_augment_as_one_device(arrays, held, kind, two_replicas):
    options = feeds.options_of(kind) | {"augment": AUGMENTATIONS["list"]()}
    source = feeds.make_source(kind, arrays)
    got, _ = feeds.train(feeds.make_loop(source, two_replicas, **options))
    if kind == "pipeline":  # Its keys are those of positions.
        want, _ = feeds.train(feeds.make_loop(source, **options))
    else:
        want, _ = held(augmented=True)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_evaluation_is_not_augmented(arrays):
    source = feeds.make_source("held", arrays)
    plain = feeds.make_loop(source).evaluate(source)
    changed = feeds.make_loop(source, augment=augment.crop(2)).evaluate(source)
    assert changed == plain


@pytest.mark.parametrize(("total", "size"), [(2, 1), (2, 8), (3, 7), (4, 2), (4, 7)])
def test_workers_read_each_example_once_and_gather_their_own(arrays, total, size):
    read = []

    class Noted(list):
        def __getitem__(self, row):
            read[-1].append(row)
            return super().__getitem__(row)

    examples = list(zip(range(feeds.COUNT), range(feeds.COUNT), strict=True))
    order = data.permute(feeds.COUNT, feeds.SEED, 1)
    for worker in range(total):
        read.append([])
        source = data.Indexed(Noted(examples), threads=1)
        read[-1].clear()
        own = feeding.Replicas(worker, worker + 1, total)
        feed = feeding.Feed(source, size, feeds.SEED, replicas=own)
        feed._count_block = lambda: 2 * size
        for call in feed.list_calls(1):
            first, stop = call.size * worker // total, call.size * (worker + 1) // total
            for i in range(call.start, call.stop):
                (x, _), numbers = feeding.take(call.data, i, first, stop)
                position = (call.position + i - call.start) * size
                want = order[position + first : position + stop]
                np.testing.assert_array_equal(x, want)
                np.testing.assert_array_equal(numbers, want)
    assert sorted(sum(read, [])) == list(range(feeds.COUNT))


def test_workers_read_whole_batches_where_examples_have_weights(arrays):
    source = data.Split(*arrays, weights=np.ones(feeds.COUNT))
    feed = feeding.Feed(
        source, feeds.BATCH, feeds.SEED, replicas=feeding.Replicas(1, 2, 2)
    )
    assert feed._list_own(20).size == 20


def test_a_large_evaluation_is_read_in_blocks(arrays):
    sizes = []

    class Noted(data.Indexed):
        def fetch(self, rows):
            sizes.append(len(rows))
            return super().fetch(rows)

    made = feeds.make_loop(feeds.make_source("held", arrays))
    made.evaluate(Noted(list(zip(*arrays, strict=True))))
    nbytes = 4 * (6 * 6 * 3 + 1)
    assert max(sizes) * nbytes <= max(feeding.BLOCK_BYTES, feeds.BATCH * nbytes)
    assert sum(sizes) >= feeds.COUNT
