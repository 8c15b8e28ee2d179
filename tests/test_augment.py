"""Augmentation: of each example what NumPy makes of it, in every mode."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfreg
from tfreg.data import augment

MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
IMAGE_FUNCTIONS = {
    "flip": augment.flip(),
    "crop": augment.crop(2),
    "reflect": augment.crop(2, "reflect"),
    "cutout": augment.cutout(3),
    "brightness": augment.brightness(0.3),
    "chain": augment.chain(augment.flip(), augment.crop(1), augment.cutout(2)),
}
FUNCTIONS = {**IMAGE_FUNCTIONS, "mixup": augment.mixup(0.4)}
DTYPES = ["uint8", "float16", "bfloat16", "float32"]


def make_keys(num, epoch=0):
    return tfreg.random.make_key(5, epoch, tf.range(num))


def make_images(rng, num, dtype="float32", height=7, width=6):
    values = rng.integers(0, 256, [num, height, width, 3])
    values = values if dtype == "uint8" else values / 255
    return tf.cast(values, dtype)


def make_targets(num):
    return tf.one_hot(tf.range(num) % 4, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_results_are_equal_to_the_bit_in_every_mode(name, dtype, rng):
    x, y, keys = make_images(rng, 40, dtype), make_targets(40), make_keys(40)
    weights = tf.constant(rng.random(40), tf.float32)
    truth = FUNCTIONS[name]((x, y, weights), keys)
    assert not np.array_equal(truth[0], x)
    for mode in ("graph", "xla"):
        got = MODES[mode](FUNCTIONS[name])((x, y, weights), keys)
        for one, other, given in zip(got, truth, (x, y, weights), strict=True):
            assert one.dtype == given.dtype and one.shape == given.shape
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", list(IMAGE_FUNCTIONS))
def test_halves_of_a_batch_are_augmented_as_the_whole(name, rng):
    x, y, keys = make_images(rng, 10), make_targets(10), make_keys(10)
    whole, _ = IMAGE_FUNCTIONS[name]((x, y), keys)
    for rows in (slice(0, 3), slice(3, 10), slice(4, 4)):
        half, targets = IMAGE_FUNCTIONS[name]((x[rows], y[rows]), keys[rows])
        np.testing.assert_array_equal(half, whole[rows])
        np.testing.assert_array_equal(targets, y[rows])
    assert not np.array_equal(IMAGE_FUNCTIONS[name]((x, y), make_keys(10, 1))[0], whole)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_a_batch_of_any_size_is_traced_once_and_keeps_its_shape(name, rng):
    spec = tf.TensorSpec([None, 7, 6, 3]), tf.TensorSpec([None, 4])
    run = tf.function(FUNCTIONS[name])
    traced = run.get_concrete_function(spec, tf.TensorSpec([None, 2], tf.uint32))
    assert traced.structured_outputs[0].shape.as_list() == [None, 7, 6, 3]
    for num in (3, 1, 0):
        x, y = make_images(rng, num), make_targets(num)
        got = traced(x, y, make_keys(num))
        np.testing.assert_array_equal(
            got[0], FUNCTIONS[name]((x, y), make_keys(num))[0]
        )


def find_matches(got, candidates):
    """Returns the number of the candidate that each image equals; the only one."""
    pairs = zip(got, candidates, strict=True)
    equal = np.array([[np.array_equal(g, c) for c in each] for g, each in pairs])
    assert (equal.sum(1) == 1).all()
    return equal.argmax(1)


def check_frequencies(numbers, num):
    counts = np.bincount(numbers, minlength=num)
    assert stats.chisquare(counts).pvalue > 1e-4, counts


def test_flip_mirrors_a_half_of_the_images(rng):
    x = make_images(rng, 4000, height=2, width=3).numpy()
    got, _ = augment.flip()((x, None), make_keys(4000))
    candidates = [(image, image[:, ::-1]) for image in x]
    check_frequencies(find_matches(got.numpy(), candidates), 2)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop_takes_every_window_equally_often(mode, dtype, rng):
    x = make_images(rng, 3000, dtype, 4, 5).numpy()
    got, _ = augment.crop(2, mode)((x, None), make_keys(3000))
    candidates = []
    for image in x:
        padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode)
        windows = [padded[i : i + 4, j : j + 5] for i in range(5) for j in range(5)]
        candidates.append(windows)
    check_frequencies(find_matches(got.numpy(), candidates), 25)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout_blackens_a_square_around_any_pixel(size, rng):
    x = make_images(rng, 1500, height=4, width=5).numpy() + 1
    got, _ = augment.cutout(size)((x, None), make_keys(1500))
    squares = []
    for i in range(4):
        for j in range(5):
            kept = np.ones([4, 5, 1], bool)
            top, left = i - size // 2, j - size // 2
            kept[max(top, 0) : top + size, max(left, 0) : left + size] = False
            squares.append(kept)
    if size == 20:  # Larger than the image from any pixel but the last row and column.
        assert np.mean(got == 0) > 0.5
        return
    candidates = [[np.where(s, image, 0) for s in squares] for image in x]
    check_frequencies(find_matches(got.numpy(), candidates), 20)


def test_brightness_adds_one_uniform_change_to_each_image(rng):
    x = make_images(rng, 5000, height=2, width=2).numpy()
    got, _ = augment.brightness(0.2)((x, None), make_keys(5000))
    change = got.numpy() - x
    deltas = change[:, 0, 0, 0]
    # float32 sums below 2 are rounded by less than 2**-23.
    np.testing.assert_allclose(change, deltas[:, None, None, None] + 0 * x, atol=3e-7)
    assert stats.kstest(deltas, stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-3


def test_brightness_of_pixels_is_tensorflows_for_the_same_change(rng):
    x, keys = make_images(rng, 50, "uint8").numpy(), make_keys(50)
    got, _ = augment.brightness(0.5)((x, None), keys)
    zeros, _ = augment.brightness(0.5)((np.zeros_like(x, np.float32), None), keys)
    for image, result, change in zip(x, got, zeros[:, 0, 0, 0], strict=True):
        want = tf.image.adjust_brightness(image, change).numpy().astype(int)
        # adjust_brightness truncates the sum, of which one may be a level less.
        assert abs(result.numpy().astype(int) - want).max() <= 1


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1, 1.0, 2.0, 30.0, 1e4])
def test_weights_of_mixup_are_of_a_beta_distribution(alpha):
    num = 100_000
    x = tf.one_hot(tf.range(2 * num) % 2, 2, dtype=tf.float64)  # e0, e1, e0, ...
    _, mixed = augment.mixup(alpha)((x, x), make_keys(2 * num))
    weights = np.sort(mixed.numpy()[::2, 0])
    # They are multiples of 2**-24: what is nearer to 0 and 1 isn't told apart.
    points = np.linspace(2**-10, 1 - 2**-10, 2001)
    if alpha >= 0.5:
        points = weights[(weights > 2**-20) & (weights < 1 - 2**-20)]
    found = np.searchsorted(weights, points, side="right") / num
    distance = abs(found - stats.beta(alpha, alpha).cdf(points)).max()
    assert stats.kstwo(num).sf(distance) > 1e-3


def test_the_beta_test_finds_another_distribution():
    x = tf.one_hot(tf.range(20_000) % 2, 2)
    _, mixed = augment.mixup(1.0)((x, x), make_keys(20_000))
    weights = mixed.numpy()[::2, 0]
    assert stats.kstest(weights, stats.beta(0.9, 0.9).cdf).pvalue < 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_mixup_mixes_each_example_with_the_next(dtype, rng):
    x, y = make_images(rng, 6, dtype).numpy(), np.eye(6, dtype=np.float32)
    weights = rng.random(6).astype(np.float32)
    batch = {"image": x, "other": weights * 2}, y, weights
    got = augment.mixup(0.8)(batch, make_keys(6))
    share = np.diag(got[1]).astype(np.float64)
    want = share[:, None] * y + (1 - share)[:, None] * np.roll(y, -1, 0)
    np.testing.assert_allclose(got[1], want, atol=1e-7)
    mixed = share * weights + (1 - share) * np.roll(weights, -1)
    np.testing.assert_allclose(got[2], mixed, atol=1e-7)
    np.testing.assert_allclose(got[0]["other"], 2 * mixed, atol=3e-7)
    share = share[:, None, None, None]
    images = share * x + (1 - share) * np.roll(x.astype(np.float64), -1, 0)
    atol = 0.51 if dtype == "uint8" else 1e-7  # Pixels are rounded.
    np.testing.assert_allclose(got[0]["image"], images, atol=atol)


def test_chain_folds_the_keys_with_the_position(rng):
    x, y, keys = make_images(rng, 30), make_targets(30), make_keys(30)
    flip = augment.flip()
    got = augment.chain(flip, augment.crop(1), flip)((x, y), keys)
    batch = x, y
    for position, change in enumerate([flip, augment.crop(1), flip]):
        batch = change(batch, tfreg.random.fold(keys, position))
    np.testing.assert_array_equal(got[0], batch[0])
    once = augment.chain(flip, flip)((x, y), keys)[0]
    assert not np.array_equal(once, x), "two flips of one key would undo each other"
    assert augment.chain()((x, y), keys)[0] is x


def test_on_changes_one_entry(rng):
    x, other = make_images(rng, 9), tf.ones([9, 2])
    batch = {"image": x, "other": other}, make_targets(9)
    got = augment.on("image", augment.flip())(batch, make_keys(9))
    want = augment.flip()((x, None), make_keys(9))[0]
    np.testing.assert_array_equal(got[0]["image"], want)
    assert got[0]["other"] is other and got[1] is batch[1]
    assert batch[0]["image"] is x


X, Y = np.zeros([2, 4, 4, 1], np.float32), np.zeros([2, 3], np.float32)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: augment.crop(0), ValueError, "padding must be an int from 1 to 32767"),
        (
            lambda: augment.crop(2, "wrap"),
            ValueError,
            "mode must be 'constant' or 'ref",
        ),
        (lambda: augment.cutout(0.5), ValueError, "size must be an int from 1 to"),
        (
            lambda: augment.brightness(-1),
            ValueError,
            "max_delta must be a finite float",
        ),
        (lambda: augment.mixup(0), ValueError, "alpha must be a finite float > 0"),
        (lambda: augment.chain(3), TypeError, "changes must be a callable, got 3: wri"),
        (lambda: augment.on("x", 3), TypeError, "change must be a callable, got 3"),
        (
            lambda: augment.crop(4, "reflect")((X, Y), make_keys(2)),
            ValueError,
            "padding must be < 4, the size of the images, got 4: take less",
        ),
        (
            lambda: augment.flip()(({"a": X}, Y), make_keys(2)),
            TypeError,
            "x of flip must be a tensor of images, got a dict: write augment.on.*image",
        ),
        (
            lambda: augment.flip()((X[0], Y), make_keys(2)),
            ValueError,
            r"x of flip must be images \[n, height, width, channels\] of a static size",
        ),
        (
            lambda: augment.flip()((X.astype(int), Y), make_keys(2)),
            TypeError,
            "x of flip must be uint8 or floating, got int64: cast it",
        ),
        (
            lambda: augment.flip()((X, Y), tfreg.random.make_key(0)),
            ValueError,
            r"keys must be \[n, 2\], one for each example, got shape \(2,\): write",
        ),
        (
            lambda: augment.mixup(1)((X, np.zeros(2, int)), make_keys(2)),
            TypeError,
            r"y of mixup must be floating, got int64: write tf.one_hot\(y, num_class",
        ),
        (
            lambda: augment.mixup(1)(({"ids": np.zeros(2, int)}, Y), make_keys(2)),
            TypeError,
            "x of mixup must be floating, got int64",
        ),
    ],
)
def test_what_cannot_be_augmented_is_refused(run, error, message):
    with pytest.raises(error, match=message):
        run()
