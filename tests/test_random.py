"""Random bits: the same in every mode, and as good as those of NumPy's Philox."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfreg.collections import random

MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
LIMIT = 1e-6  # Of p-values: one of a million sets of true random numbers is below.
ROWS, COLUMNS = 512, 1024


def hash_numpy(seed, data, num):
    """Returns `bits(make_key(seed, *data), [num])`, computed again in Python's ints."""

    def turn(x, shift, factor=1):
        return (x ^ (x >> shift)) * factor % 2**32

    def mix(x):
        return turn(turn(turn(x, 16, 0x7FEB352D), 15, 0x846CA68B), 16)

    a, b = 0x243F6A88, 0x85A308D3
    for each in (seed, *data):
        first = mix(a ^ each % 2**32)
        b = mix(((b ^ (each >> 32) % 2**32) + first) % 2**32)
        a = (first + b) % 2**32
    starts = [(i * 0x9E3779B1 + a) % 2**32 for i in range(num)]
    return [mix(turn(x, 16, 0x21F0AAAD) ^ b) for x in starts]


@pytest.mark.parametrize("mode", list(MODES))
def test_bits_are_those_of_the_hash_in_every_mode(mode):
    def run(step, examples):
        keys = random.make_key(3, step, examples)
        return random.bits(keys, [2, 5]), random.bits(random.make_key(2**63), [7])

    numbers = [0, 7, -1, 2**31, 2**40 + 3]
    examples = tf.constant(numbers, tf.int64)
    got, one = MODES[mode](run)(tf.constant(2**33 + 1, tf.int64), examples)
    want = [hash_numpy(3, (2**33 + 1, i), 10) for i in numbers]
    np.testing.assert_array_equal(tf.reshape(got, [5, 10]), want)
    np.testing.assert_array_equal(one, hash_numpy(2**63, (), 7))


def test_a_key_depends_on_the_integer_and_not_on_its_dtype():
    for number in (0, 5, -5, 2**31 - 1):
        dtypes = [tf.int32, tf.int64] + [tf.uint8] * (0 <= number < 256)
        keys = [random.make_key(0, tf.constant(number, t)).numpy() for t in dtypes]
        keys += [random.make_key(0, number), random.make_key(0, np.int64(number))]
        keys += [random.make_key(0, tf.Variable(number))]
        keys += [random.make_key(0, tf.constant([number]))[0]]
        for key in keys:
            np.testing.assert_array_equal(key, keys[0])
    large = tf.constant(2**32 - 1, tf.uint32)
    np.testing.assert_array_equal(
        random.make_key(0, large), random.make_key(0, 2**32 - 1)
    )


def test_pairs_of_words_are_folded_row_by_row():
    other = random.make_key(8, tf.range(6))
    keys = random.make_key(1, tf.range(6))
    got = random.fold(keys, other)
    words = other.numpy().astype(object)
    for row in range(6):
        number = int(words[row, 0] + 2**32 * words[row, 1])
        np.testing.assert_array_equal(got[row], random.fold(keys[row], number))


def test_no_two_of_a_million_keys_are_equal():
    numbers = tf.range(2**19, dtype=tf.int64)
    keys = [random.make_key(1, numbers), random.make_key(1, numbers * 2**32 + 2**20)]
    words = np.concatenate(keys).astype(np.uint64)
    assert len(np.unique(words[:, 0] * 2**32 + words[:, 1])) == 2**20


def test_each_row_is_that_of_its_key_and_begins_with_its_shorter_ones():
    keys = random.make_key(1, tf.range(5))
    whole = random.bits(keys, [4, 3])
    for row in range(5):
        np.testing.assert_array_equal(random.bits(keys[row], [4, 3]), whole[row])
    np.testing.assert_array_equal(random.bits(keys, [2, 3]), whole[:, :2])
    np.testing.assert_array_equal(random.bits(keys, []), whole[:, 0, 0])


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_shapes_are_static_or_tensors(mode):
    @MODES[mode]
    def run(x):
        keys = random.make_key(0, tf.range(tf.shape(x)[0]))
        fixed, whole = random.bits(keys, [3]), random.bits(keys, tf.shape(x)[1:])
        return fixed, whole, random.bits(keys[0], [tf.shape(x)[1], 2])

    x = tf.zeros([4, 5])
    for values, truth in zip(run(x), run.python_function(x), strict=True):
        np.testing.assert_array_equal(values, truth)
    spec = tf.TensorSpec([None, 5])
    shapes = [v.shape.as_list() for v in run.get_concrete_function(spec).outputs]
    assert shapes == [[None, 3], [None, 5], [5, 2]]


DTYPES = {tf.float16: 11, tf.bfloat16: 8, tf.float32: 24, tf.float64: 32}


@pytest.mark.parametrize("dtype", list(DTYPES), ids=lambda d: d.name)
def test_uniform_numbers_are_the_highest_bits(dtype):
    key = random.make_key(2)
    highest = random.bits(key, [100_000]).numpy() >> np.uint32(32 - DTYPES[dtype])
    got = random.uniform(key, [100_000], dtype)
    assert got.dtype == dtype
    want = highest / 2.0 ** DTYPES[dtype]
    np.testing.assert_array_equal(got.numpy().astype(np.float64), want)
    compiled = tf.function(random.uniform, jit_compile=True)
    np.testing.assert_array_equal(compiled(key, [100_000], dtype), got)
    assert stats.kstest(want, "uniform").pvalue > 1e-3 or DTYPES[dtype] < 20


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (1.5, TypeError, "data must be integers, got float32: cast them"),
        (2**64, ValueError, "data must be an int"),
        (
            np.zeros([2, 3], int),
            ValueError,
            r"data must be a scalar, \[n\] or \[n, 2\]",
        ),
    ],
)
def test_other_data_are_refused(data, error, message):
    with pytest.raises(error, match=message):
        random.make_key(0, data)


# Quality: what is true of NumPy's Philox has to be true of the hash.


def draw_philox(seed):
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.integers(0, 2**32, [ROWS, COLUMNS], np.uint32)


def draw_rows(seed):  # One step: a key for each example.
    keys = random.make_key(seed, 10, tf.range(ROWS))
    return random.bits(keys, [COLUMNS]).numpy()


def draw_steps(seed):  # One example in many steps.
    keys = random.fold(random.make_key(seed, tf.range(ROWS)), 3)
    return random.bits(keys, [COLUMNS]).numpy()


def draw_large_steps(seed):  # Only the high words differ.
    numbers = tf.range(ROWS, dtype=tf.int64) * 2**32
    return random.bits(random.make_key(seed, numbers), [COLUMNS]).numpy()


def draw_seeds(seed):
    keys = [random.make_key(ROWS * seed + i) for i in range(ROWS)]
    return random.bits(tf.stack(keys), [COLUMNS]).numpy()


def draw_layers(seed):  # As of dropout: one place after the other.
    keys = [random.make_key(seed, i, 5, 6) for i in range(ROWS)]
    return random.bits(tf.stack(keys), [COLUMNS]).numpy()


def draw_one_key(seed):
    return random.bits(random.make_key(seed), [ROWS, COLUMNS]).numpy()


def draw_columns(seed):  # The numbers of a position, of all keys.
    keys = random.make_key(seed, tf.range(COLUMNS))
    return random.bits(keys, [ROWS]).numpy().T


def draw_unmixed(seed):  # A bad hash.
    rows = np.arange(ROWS, dtype=np.uint32)[:, None] * np.uint32(0x9E3779B1)
    columns = np.arange(COLUMNS, dtype=np.uint32) * np.uint32(0x85EBCA6B)
    return rows + columns + np.uint32(seed)


def draw_sum(seed):  # Rows and columns that are good, and not independent.
    keys = random.make_key(seed, tf.range(2))
    numbers = random.bits(keys, [COLUMNS]).numpy()
    return numbers[0][:ROWS, None] + numbers[1]


GOOD = {
    "philox": draw_philox,
    "rows": draw_rows,
    "steps": draw_steps,
    "large steps": draw_large_steps,
    "seeds": draw_seeds,
    "layers": draw_layers,
    "one key": draw_one_key,
    "columns": draw_columns,
}
BAD = {"unmixed": draw_unmixed, "sum": draw_sum}


def compute_pvalue(counts, axis=-1):
    """Returns the least p-value of chi-squared tests, times their number."""
    pvalues = np.atleast_1d(stats.chisquare(counts, axis=axis).pvalue)
    return pvalues.min() * pvalues.size


def count(values, num):
    return np.bincount(values.ravel(), minlength=num)


def check_bytes(x):
    return [count(x >> np.uint32(8 * k) & np.uint32(255), 256) for k in range(4)]


def check_bits(x):
    ones = [int(np.sum(x >> np.uint32(k) & np.uint32(1))) for k in range(32)]
    return [(n, x.size - n) for n in ones]


def check_pairs(x, y):
    """Counts pairs of 4 bits, at each of the words' nibbles."""
    pairs = []
    for k in range(0, 32, 4):
        one, other = (v >> np.uint32(k) & np.uint32(15) for v in (x, y))
        pairs.append(count(16 * one + other, 256))
    return pairs


def check_flips(x, y):
    """Counts how often a bit is equal in two words."""
    return check_bits(x ^ y)


NEIGHBOURS = {
    "row": lambda x: (x[1:], x[:-1]),
    "column": lambda x: (x[:, 1:], x[:, :-1]),
    "diagonal": lambda x: (x[1:, 1:], x[:-1, :-1]),
    "far": lambda x: (x[ROWS // 2 :], x[: ROWS // 2]),
}


def find_pvalues(x):
    """Returns test -> p-value, of as many tests as it stands for."""
    found = {
        "bytes": compute_pvalue(check_bytes(x)),
        "bits": compute_pvalue(check_bits(x)),
    }
    for name, cut in NEIGHBOURS.items():
        one, other = cut(x)
        found[f"pairs, {name}"] = compute_pvalue(check_pairs(one, other))
        found[f"flips, {name}"] = compute_pvalue(check_flips(one, other))
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        z = abs(correlation) * np.sqrt(one.size)
        found[f"correlation, {name}"] = 2 * stats.norm.sf(z)
    # Sums of rows and columns are as spread as those of independent numbers.
    uniform = (x / 2.0**32 - 0.5) * np.sqrt(12)
    for axis in (0, 1):
        sums = uniform.sum(axis) / np.sqrt(x.shape[axis])
        q = stats.chi2.cdf(np.sum(sums**2), sums.size)
        found[f"sums, axis {axis}"] = 2 * min(q, 1 - q)
    # Correlations of all pairs of rows: of mean 0 and deviation 1 / sqrt(COLUMNS).
    pairs = np.corrcoef(uniform)[np.triu_indices(ROWS, 1)] * np.sqrt(COLUMNS)
    found["largest of rows"] = 2 * stats.norm.sf(abs(pairs).max()) * pairs.size
    # Second differences: of a 2 x 2 block the sum of corners minus the others.
    block = x[1:, 1:] - x[1:, :-1] - x[:-1, 1:] + x[:-1, :-1]
    found["blocks"] = compute_pvalue(check_bytes(block))
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(GOOD))
def test_bits_are_uniform_and_independent(name, seed):
    found = find_pvalues(GOOD[name](seed))
    assert min(found.values()) > LIMIT, found


@pytest.mark.parametrize("name", list(BAD))
def test_the_tests_of_quality_find_a_bad_hash(name):
    assert min(find_pvalues(BAD[name](1)).values()) < LIMIT
