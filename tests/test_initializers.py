"""Initial values against Keras's formulas and SciPy's distributions."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfreg import layers
from tfreg.layers import initializers

SHAPES = [(784, 128), (5, 5, 16, 64), (3, 3, 512, 1), (1, 1, 64, 300)]
# The share of fair samples that a test here would call unfair.
LEVEL = 1e-6


def fans_of(shape):
    """Returns what Keras takes for a kernel's inputs and outputs."""
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def distribution_of(name, shape):
    """Returns the distribution that Keras's documentation states."""
    fan_in, fan_out = fans_of(shape)
    if name == "glorot_uniform":
        limit = math.sqrt(6 / (fan_in + fan_out))
        return scipy.stats.uniform(-limit, 2 * limit)
    if name == "he_normal":
        # Of variance 2 / fan_in after the cut at two deviations.
        cut = scipy.stats.truncnorm(-2, 2)
        return scipy.stats.truncnorm(-2, 2, scale=math.sqrt(2 / fan_in) / cut.std())
    return scipy.stats.uniform(-0.05, 0.1)


KERAS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "he_normal": keras.initializers.HeNormal,
    "small_uniform": keras.initializers.RandomUniform,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(KERAS))
def test_values_have_the_stated_distribution_as_kerass_have(name, shape):
    values = getattr(initializers, name)(shape, seed=(3, 4))
    assert values.dtype == tf.float32 and values.shape == shape
    truth = distribution_of(name, shape)
    theirs = KERAS[name](seed=1)(shape)
    for sample in (values.numpy().ravel(), np.asarray(theirs).ravel()):
        assert scipy.stats.kstest(sample, truth.cdf).pvalue > LEVEL
    low, high = truth.support()
    # float32 rounds the bounds.
    assert low * 1.000001 <= values.numpy().min()
    assert values.numpy().max() <= high * 1.000001


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(KERAS))
def test_variance_is_kerass(name, shape):
    values = getattr(initializers, name)(shape, seed=(3, 4)).numpy().ravel()
    truth = distribution_of(name, shape)
    # The deviation of a sample's variance, which its fourth moment gives.
    error = math.sqrt((truth.moment(4) - truth.var() ** 2) / values.size)
    assert abs(np.mean(values**2) - truth.var()) < 5 * error
    variances = {"glorot_uniform": 2 / sum(fans_of(shape)), "he_normal": 2}
    variances["he_normal"] /= fans_of(shape)[0]
    variances["small_uniform"] = 0.1**2 / 12
    np.testing.assert_allclose(truth.var(), variances[name], rtol=1e-12)


@pytest.mark.parametrize("name", list(KERAS))
def test_the_seed_alone_decides_the_values(name):
    make = getattr(initializers, name)
    tf.random.set_seed(1)
    values = make([20, 30], (5, 6)).numpy()
    tf.random.set_seed(2)
    tf.random.normal([3])
    np.testing.assert_array_equal(make([20, 30], (5, 6)), values)
    graph = tf.function(lambda: make([20, 30], (5, 6)))
    np.testing.assert_array_equal(graph(), values)
    for other in ((6, 6), (5, 7), (6, 5)):
        assert np.mean(make([20, 30], other) == values) < 0.01


def test_values_are_those_of_earlier_versions():
    # Recorded: a run that is repeated starts from these.
    recorded = {
        "glorot_uniform": [-1.02347994, -0.22221756, -0.26164311, -0.45008564],
        "he_normal": [1.37153196, -2.13973284, 1.42068994, -0.62811565],
    }
    for name, values in recorded.items():
        got = getattr(initializers, name)([2, 2], (0, 1)).numpy().ravel()
        # The normal's logarithm and root are the device's.
        np.testing.assert_allclose(got, values, rtol=1e-5)


def test_constants_are_constant_and_float32():
    for make, value in ((initializers.zeros, 0.0), (initializers.ones, 1.0)):
        got = make([2, 3], (0, 1))
        assert got.dtype == tf.float32
        np.testing.assert_array_equal(got, np.full([2, 3], value))


@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal"])
def test_a_shape_without_inputs_and_outputs_is_refused(name):
    for shape in ((), (5,)):
        with pytest.raises(ValueError) as info:
            getattr(initializers, name)(shape, (0, 1))
        assert str(info.value) == (
            f"shape must have rank 2 or more, got {shape}: "
            "use small_uniform, zeros or ones"
        )


@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_kernel_is_empty_as_in_keras(name, shape):
    theirs = KERAS[name]()(shape)
    assert getattr(initializers, name)(shape, (0, 1)).shape == theirs.shape


def kernel_of(name, seed=0):
    layer = layers.Dense(40, seed=seed, name=name)
    layer(tf.zeros([1, 30]))
    return layer.kernel.numpy()


def test_a_layers_values_come_from_its_seed_and_name_alone():
    first = kernel_of("a")
    kernel_of("other")
    np.testing.assert_array_equal(kernel_of("a"), first)
    for other in (kernel_of("b"), kernel_of("a", seed=1)):
        assert np.mean(other == first) < 0.01
        # Nor are they the same values in another order, or shifted.
        assert abs(np.corrcoef(other.ravel(), first.ravel())[0, 1]) < 0.15


def test_each_variable_of_a_layer_has_values_of_its_own():
    layer = layers.SeparableConv2D(8, 1, name="s")
    layer(tf.zeros([1, 4, 4, 8]))
    depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel
    assert np.mean(depthwise.numpy().ravel()[:8] == pointwise.numpy().ravel()[:8]) == 0


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_seeds_reach_from_0_to_the_largest_int32(seed):
    assert np.isfinite(kernel_of("a", seed)).all()
    # NumPy's integers are integers.
    np.testing.assert_array_equal(kernel_of("a", np.int64(seed)), kernel_of("a", seed))


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, True, "0"])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError) as info:
        layers.Dense(2, seed=seed)
    assert str(info.value) == (
        f"seed must be an int from 0 to 2147483647, got {seed!r}: write for example 10"
    )
