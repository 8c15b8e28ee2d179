"""The rule that chooses between XLA and graph mode, and what it knows of kernels."""

import numpy as np
import pytest
import tensorflow as tf

from tfreg.training import compiling

linalg, nn = tf.linalg, tf.nn
ON_GPU = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this TensorFlow has no kernels for GPUs"
)


def trace(function, *shapes, dtype=tf.float32):
    """Returns the graph of a function of tensors."""
    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    return tf.function(function).get_concrete_function(*specs).graph


def choose(function, *shapes, dtype=tf.float32, **arguments):
    return compiling.choose(trace(function, *shapes, dtype=dtype), **arguments)


def differentiate(function):
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    return gradient


def as_loop(function):
    """Returns a function that runs another in a loop, inside a tf.function."""
    nested = tf.function(function)

    def loop(x):
        def body(k, x):
            return k + 1, x + tf.reduce_mean(tf.cast(nested(x), x.dtype))

        return tf.while_loop(lambda k, _: k < 3, body, [0, x], maximum_iterations=3)[1]

    return loop


def square(n):
    return lambda x: x @ tf.transpose(x) + float(n) * tf.eye(n)


table = tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer([1, 2], [3, 4], tf.int32, tf.int32), 0
)
IMAGES = [2, 8, 8, 3]
KERNEL = np.ones([3, 3, 3, 3], np.float32)
# Operation and the graph's mode on a CPU: the shape of x, the function, a reason.
SLOW = {
    "convolution": (
        IMAGES,
        lambda x: nn.conv2d(x, KERNEL, 1, "SAME"),
        "Conv2D is slow in XLA on a CPU, in Conv2D",
    ),
    "its gradient": (
        IMAGES,
        lambda x: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=IMAGES,
            filter=KERNEL,
            out_backprop=x,
            strides=[1] * 4,
            padding="SAME",
        ),
        "Conv2DBackpropInput is slow",
    ),
    "conv1d": ([2, 8, 3], lambda x: nn.conv1d(x, KERNEL[0], 1, "SAME"), "Conv2D is"),
    "conv3d": (
        [2, 4, 4, 4, 3],
        lambda x: nn.conv3d(x, KERNEL[None], [1] * 5, "SAME"),
        "Conv3D is slow",
    ),
    "transposed": (
        IMAGES,
        lambda x: nn.conv2d_transpose(x, KERNEL, [2, 16, 16, 3], 2),
        "Conv2DBackpropInput is slow",
    ),
    "depthwise": (
        IMAGES,
        lambda x: nn.depthwise_conv2d(x, KERNEL[..., :1], [1] * 4, "SAME"),
        "DepthwiseConv2dNative is slow",
    ),
    "gradient of max pooling": (
        IMAGES,
        differentiate(lambda x: nn.max_pool2d(x, 2, 2, "VALID")),
        "MaxPoolGrad is slow",
    ),
    "resize": (IMAGES, lambda x: tf.image.resize(x, [9, 9]), "ResizeBilinear is slow"),
    "sort": ([2048], tf.sort, "TopKV2 is slow"),
    "large Cholesky": ([64, 64], lambda x: linalg.cholesky(square(64)(x)), "Cholesky"),
    "large inverse": ([64, 64], lambda x: linalg.inv(square(64)(x)), "MatrixInverse"),
    "SVD": ([8, 8], lambda x: linalg.svd(x, compute_uv=False), "Svd is slow"),
    "random numbers": (
        [32, 128],
        lambda x: x * tf.random.stateless_uniform([32, 128], [1, 2]),
        "StatelessRandomUniformV2 is slow",
    ),
}
FAST = {
    "pooling": (IMAGES, lambda x: nn.max_pool2d(x, 2, 2, "VALID")),
    "average pooling": (
        IMAGES,
        differentiate(lambda x: nn.avg_pool2d(x, 2, 2, "VALID")),
    ),
    "matmul": ([4, 4], differentiate(lambda x: x @ x)),
    "einsum": ([4, 4, 4], differentiate(lambda x: tf.einsum("bqd,bkd->bqk", x, x))),
    "softmax": ([4, 4], differentiate(nn.softmax)),
    "small sort": ([8], differentiate(tf.sort)),
    "small Cholesky": ([8, 8], differentiate(lambda x: linalg.cholesky(square(8)(x)))),
    "few random numbers": (
        [4],
        lambda x: x * tf.random.stateless_uniform([4], [1, 2]),
    ),
    "Fourier transform": (
        [4, 16],
        differentiate(lambda x: tf.abs(tf.signal.rfft(x))),
    ),
    "cumsum": ([4, 16], differentiate(tf.cumsum)),
    "an assertion": ([4], lambda x: (tf.debugging.assert_positive(x + 9.0), x)[1]),
    "recurrence": ([4, 4], differentiate(as_loop(lambda x: tf.tanh(x @ x)))),
    "a branch": (
        [],
        differentiate(lambda x: tf.cond(x > 0, lambda: x * x, lambda: x)),
    ),
    "a scan": ([4, 4], differentiate(lambda x: tf.scan(lambda a, b: a * b, x))),
}
# Functions that XLA can't compile, and the operation that it can't.
MISSING = {
    "py_function": (lambda x: tf.py_function(lambda x: x, [x], x.dtype), "EagerPyFunc"),
    "numpy_function": (lambda x: tf.numpy_function(np.sin, [x], x.dtype), "PyFunc"),
    "print": (lambda x: (tf.print("x", x), x)[1], "StringFormat"),
    "as_string": (lambda x: tf.strings.length(tf.as_string(x)), "AsString"),
    "strings": (
        lambda x: tf.gather(["a", "b"] * 4, tf.cast(x, tf.int32)) == "a",
        "GatherV2 has no XLA kernel for its types",
    ),
    "lookup": (lambda x: table[tf.cast(x, tf.int32)], "LookupTableFindV2"),
    "segment_sum": (lambda x: tf.math.segment_sum(x, [0, 0, 1, 1]), "SegmentSum"),
    "crop_and_resize": (
        lambda x: tf.image.crop_and_resize(
            tf.reshape(x, [1, 2, 2, 1]), tf.zeros([1, 4]), [0], [3, 3]
        ),
        "CropAndResize",
    ),
    "bicubic": (
        lambda x: tf.image.resize(tf.reshape(x, [1, 2, 2, 1]), [3, 3], "bicubic"),
        "ResizeBicubic",
    ),
    "gamma": (
        lambda x: x * tf.random.stateless_gamma([4], [1, 2], 1.0),
        "StatelessRandomGammaV3",
    ),
    "max_pool_with_argmax": (
        lambda x: (
            nn.max_pool_with_argmax(tf.reshape(x, [1, 2, 2, 1]), 2, 2, "VALID").output
        ),
        "MaxPoolWithArgmax",
    ),
    "sets": (
        lambda x: tf.sets.size(tf.sparse.from_dense(tf.cast(x, tf.int32)[None])),
        "SetSize",
    ),
    "sparse matmul": (
        lambda x: tf.sparse.sparse_dense_matmul(
            tf.sparse.SparseTensor([[0, 1]], [2.0], [1, 4]), x[:, None]
        ),
        "SparseTensorDenseMatMul",
    ),
    "slogdet": (
        lambda x: linalg.slogdet(tf.reshape(x, [2, 2])).log_abs_determinant,
        "LogMatrixDeterminant",
    ),
    "timestamp": (lambda x: x + tf.cast(tf.timestamp(), x.dtype), "Timestamp"),
    "loop without maximum_iterations": (
        differentiate(
            lambda x: tf.while_loop(
                lambda x: tf.reduce_sum(x) < 9.0, lambda x: (x * x,), [x]
            )[0]
        ),
        "maximum_iterations",
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_what_is_slow_in_xla_on_a_cpu_runs_in_graph_mode_there_and_is_named(name):
    shape, function, reason = SLOW[name]
    mode = choose(function, shape)
    assert mode.name == "graph"
    assert mode.reasons[0].startswith(reason)


@ON_GPU
@pytest.mark.parametrize("name", SLOW)
def test_what_has_a_kernel_is_compiled_on_a_gpu(name):
    shape, function, _ = SLOW[name]
    assert choose(function, shape, device_type="GPU") == ("xla", ())


@pytest.mark.parametrize("name", FAST)
def test_what_is_fast_in_xla_is_compiled(name):
    shape, function = FAST[name]
    assert choose(function, shape) == ("xla", ())


@pytest.mark.parametrize("device_type", ["CPU", pytest.param("GPU", marks=ON_GPU)])
@pytest.mark.parametrize("name", MISSING)
def test_what_xla_cannot_compile_runs_in_graph_mode_and_is_named(name, device_type):
    function, operation = MISSING[name]
    mode = choose(function, [4], device_type=device_type)
    assert mode.name == "graph"
    assert operation in " ".join(mode.reasons)


@pytest.mark.parametrize("name", MISSING)
def test_what_has_no_kernel_fails_under_xla_and_runs_in_graph_mode(name):
    function, _ = MISSING[name]
    x = tf.constant([1.5, 2.0, 3.0, 4.0])
    tf.function(function)(x)
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)):
        tf.function(function, jit_compile=True)(x)


@pytest.mark.parametrize("cases", [FAST, SLOW])
def test_what_is_fast_or_slow_has_kernels(cases):
    @tf.function(jit_compile=True)
    def run():  # One program compiles faster than one for each.
        return [function(tf.ones(shape)) for shape, function, *_ in cases.values()]

    run()


def test_unknown_dimensions_run_in_graph_mode():
    mode = choose(lambda images, x: (images + 1.0, x), [None, 3], [2])
    assert mode == ("graph", ("the input has an unknown dimension, in images",))
    assert choose(lambda images, x: x + 1.0, [None, 3], [2]) == ("xla", ())  # unused
    mode = choose(lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0.0)), [4])
    assert mode == ("graph", ("Where has an unknown dimension, in boolean_mask/Where",))


@pytest.mark.parametrize(
    "wrap",
    [
        tf.function,
        as_loop,
        lambda f: lambda x: tf.cond(x[0] > 0, lambda: f(x), lambda: x),
    ],
)
def test_what_a_step_calls_counts(wrap):
    missing = wrap(lambda x: tf.py_function(tf.identity, [x], x.dtype))
    assert "EagerPyFunc has no XLA kernel" in choose(missing, [4]).reasons[0]
    assert choose(wrap(lambda x: x + 1.0), [4]) == ("xla", ())


def test_a_sort_in_a_loop_is_told_from_the_largest_elements():
    assert choose(as_loop(tf.sort), [2048]).reasons[0].startswith("TopKV2 is slow")
    assert choose(as_loop(lambda x: nn.top_k(x, 1024)[0]), [2048]) == ("xla", ())
    assert (
        choose(as_loop(lambda x: tf.argsort(tf.cast(x, tf.int32))), [2048]).name
        == "xla"
    )


def test_what_a_step_does_not_call_does_not_count():
    @tf.custom_gradient
    def forward(x):
        return x, lambda upstream: tf.py_function(tf.identity, [upstream], x.dtype)

    nested = tf.function(forward)
    nested.get_concrete_function(tf.TensorSpec([4]))

    def unused(x):
        tf.strings.length(tf.as_string(x))
        return nested(x)

    graph = trace(unused, [4])
    operations = {operation.type for operation in graph.get_operations()}
    assert "AsString" in operations and compiling.choose(graph) == ("xla", ())
    assert choose(differentiate(unused), [4]).name == "graph"


def test_sizes_that_a_call_leaves_open_do_not_count_but_its_operations_do():
    anything = tf.TensorSpec(None)
    nested = tf.function(lambda x: x + 1.0, input_signature=[anything])
    assert choose(lambda x: nested(x), [4]) == ("xla", ())
    nested = tf.function(lambda x: tf.where(x > 0.0))
    reasons = ("Where has an unknown dimension, in Where",)
    assert choose(lambda x: nested(x), [4]) == ("graph", reasons)
    convolve = SLOW["convolution"][1]
    nested = tf.function(convolve, input_signature=[tf.TensorSpec([None] * 3 + [3])])
    assert choose(lambda x: nested(x), IMAGES).reasons[0].startswith("Conv2D is slow")


def test_side_effects_count():
    def log(x):
        tf.print(x)
        return x

    assert choose(log, [4]).name == "graph"


def test_functions_that_xla_compiles_in_either_mode_do_not_count():
    convolve = SLOW["convolution"][1]
    compiled = tf.function(convolve, jit_compile=True)
    graph = compiled.get_concrete_function(tf.TensorSpec(IMAGES)).graph
    assert compiling.choose(graph).name == "graph"
    assert choose(lambda x: compiled(x) + 1.0, IMAGES) == ("xla", ())


def test_a_graph_that_was_not_traced_counts_as_a_whole():
    with tf.Graph().as_default() as graph:
        tf.strings.length(tf.as_string(tf.constant(1.0)))
    reasons = compiling.choose(graph).reasons
    assert reasons[0] == "AsString has no XLA kernel, in AsString"


def test_the_reasons_are_few_different_and_the_same_every_time():
    def step(x):
        for _ in range(3):
            x = nn.conv2d(x, KERNEL, 1, "SAME")
        x = tf.reduce_sum(x, [1, 2, 3])
        for name in ("py_function", "lookup", "segment_sum", "gamma", "as_string"):
            x = MISSING[name][0](tf.cast(tf.ensure_shape(x, [4]), tf.float32))
        return x

    first, second = (choose(step, [4, 8, 8, 3]) for _ in range(2))
    assert first == second
    assert first.reasons[0].startswith("Conv2D is slow")
    kinds = {reason.partition(",")[0] for reason in first.reasons}
    assert len(kinds) == len(first.reasons) == compiling.MAX_REASONS


@ON_GPU
def test_max_pooling_that_has_to_be_deterministic_runs_in_graph_mode():
    _, function, _ = SLOW["gradient of max pooling"]
    graph = trace(function, IMAGES)
    mode = compiling.choose(graph, "GPU", deterministic=True)
    assert mode.reasons[0].startswith("MaxPoolGrad isn't deterministic in XLA")


def test_other_values_are_refused():
    modes = [compiling.check(mode) for mode in compiling.MODES]
    assert modes == ["auto", "xla", "graph"]
    message = "^compile must be one of auto, xla, graph, got"
    with pytest.raises(ValueError, match=message):
        compiling.check("fast")
    with pytest.raises(ValueError, match="^device_type must be CPU or GPU, got 'TPU'"):
        choose(tf.identity, [4], device_type="TPU")
