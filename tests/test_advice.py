"""What an error advises works, and gives the right number.

Each case does something wrong, and then what the message says; the truth is a closed
form on y = x @ [1, 1, 1] of ones: the kernel costs 0.75, the activity sum(y) / batch 3.
"""

import numpy as np
import pytest
import tensorflow as tf

import tfreg

X = tf.ones([2, 3])
L2 = tfreg.l2_regularizer(0.5)


def ones(shape, seed):
    del seed
    return tf.ones(shape)


def make(**arguments):
    arguments.setdefault("kernel_regularizer", L2)
    layer = tfreg.layers.Dense(1, use_bias=False, kernel_initializer=ones, **arguments)
    with tfreg.step_scope():
        layer(X)
    return layer


def make_active():
    return make(activity_regularizer=tf.reduce_sum)


def get_total(outputs, model=None, **arguments):
    return tfreg.losses.total_loss(0.0 * outputs[:, 0], model, **arguments)


def traced(step):
    return tf.function(step)()


def scoped(step):
    with tfreg.step_scope():
        return step()


def forward_elsewhere():
    layer = make_active()
    inner = tf.function(lambda: layer(X))
    wrong = lambda: traced(lambda: get_total(inner(), layer))  # noqa: E731
    return wrong, lambda: traced(lambda: get_total(layer(X), layer)), 3.75


def forward_in_a_branch():
    layer = make_active()
    branch = lambda step: tf.cond(tf.size(X) > 0, step, lambda: 0.0)  # noqa: E731

    def wrong():
        outputs = tf.cond(tf.size(X) > 0, lambda: layer(X), lambda: tf.zeros([2, 1]))
        return get_total(outputs, layer)

    advised = lambda: get_total(layer(X), layer)  # noqa: E731
    return lambda: traced(wrong), lambda: traced(lambda: branch(advised)), 3.75


def forward_in_a_vectorized_map():
    layer = make_active()

    def wrong():
        return get_total(tf.vectorized_map(lambda x: layer(x[None])[0], X), layer)

    def advised():
        each = tf.vectorized_map(lambda x: get_total(layer(x[None]), layer), X)
        return tf.reduce_mean(each)

    return lambda: traced(wrong), lambda: traced(advised), 3.75


def eager_without_a_scope():
    layer = make_active()
    step = lambda: get_total(layer(X), layer)  # noqa: E731
    return step, lambda: scoped(step), 3.75


def a_part_that_is_not_called():
    layers = [make_active(), make_active()]
    wrong = lambda: traced(lambda: get_total(layers[0](X), layers))  # noqa: E731
    return wrong, lambda: traced(lambda: get_total(layers[0](X), layers[0])), 3.75


def recompute_grad():
    layer, plain = make_active(), make()

    def step(layer, penalizes):
        with tf.GradientTape():
            outputs = tf.recompute_grad(lambda x: layer(x))(X)
            if penalizes:
                tfreg.penalize_activity(tf.reduce_sum, outputs)
            return get_total(outputs, layer)

    return (
        lambda: traced(lambda: step(layer, False)),
        (lambda: traced(lambda: step(plain, True))),
        3.75,
    )


def two_passes_with_a_total_each():
    layer = make_active()
    step = lambda: get_total(layer(X), layer)  # noqa: E731
    return (
        lambda: traced(lambda: step() + step()),
        lambda: traced(lambda: scoped(step) + scoped(step)),
        7.5,
    )


class WithLoss(tf.Module):
    def __init__(self):
        super().__init__()
        self.layer = make()

    def penalize(self):
        tfreg.add_loss(tf.constant(2.0), name="energy")


def a_loss_of_two_models():
    first, second = WithLoss(), WithLoss()

    def step(add):
        add()
        return get_total(X, first) + get_total(X, second)

    wrong = lambda: scoped(  # noqa: E731
        lambda: step(lambda: tfreg.add_loss(tf.constant(2.0), name="energy"))
    )
    return wrong, lambda: scoped(lambda: step(first.penalize)), 3.5


def an_eager_tensor_in_a_losses_collection():
    layer = make(kernel_regularizer=None)

    def wrong():
        tfreg.add_to_collection("losses", L2(layer.kernel))

    def advised():
        tfreg.apply_regularization(L2, [layer.kernel])
        return get_total(X)

    return wrong, advised, 0.75


def a_loss_outside_a_step():
    wrong = lambda: tfreg.add_loss(tf.constant(2.0))  # noqa: E731

    def advised():
        tfreg.add_loss(tf.constant(2.0))
        return get_total(X)

    return wrong, lambda: scoped(advised), 2.0


def a_tensor_applied_outside_a_step():
    w = tf.Variable([2.0])
    wrong = lambda: tfreg.apply_regularization(L2, [w + 0.0])  # noqa: E731

    def advised():
        tfreg.apply_regularization(L2, [w])
        return get_total(X)

    return wrong, advised, 1.0


def a_scale_that_is_a_function():
    regularizer = tfreg.l2_regularizer(lambda step: 0.5 * tf.cast(step, tf.float32))
    w = tf.Variable([2.0])

    def advised():
        with tfreg.step_scope(step=3):
            return regularizer(w)

    return lambda: regularizer(w), advised, 3.0


def integer_weights():
    w = tf.constant([1, 2])
    return lambda: L2(w), lambda: L2(tf.cast(w, tf.float32)), 1.25


def ragged_weights():
    w = tf.ragged.constant([[1.0, 2.0], [2.0]])
    return lambda: L2(w), lambda: L2(w.flat_values), 2.25


def sparse_weights():
    w = tf.sparse.from_dense([[0.0, 2.0]])
    return lambda: L2(w), lambda: L2(w.values), 1.0


def a_scalar_with_weights():
    losses, weights = tf.constant([1.0, 3.0]), tf.constant([1.0, 0.0])
    total = tfreg.losses.total_loss
    wrong = lambda: total(tf.reduce_mean(losses), weights=weights)  # noqa: E731
    return wrong, lambda: total(losses, weights=weights), 1.0


def a_scalar_with_a_global_batch():
    loss, total = tf.constant(2.0), tfreg.losses.total_loss
    wrong = lambda: total(loss, global_batch_size=8)  # noqa: E731
    return wrong, lambda: total(loss, num_examples=4, global_batch_size=8), 1.0


def complex_losses():
    losses, total = tf.constant([3.0 + 4.0j]), tfreg.losses.total_loss
    parts = lambda: total(tf.math.real(losses)) + total(tf.math.imag(losses))  # noqa: E731
    return lambda: total(losses), parts, 7.0


def a_function_as_the_model():
    layer = make()
    wrong = lambda: get_total(X, lambda x: layer(x))  # noqa: E731
    return wrong, lambda: get_total(X, [layer]), 0.75


def a_keras_layer_with_its_own_penalty():
    layer = tf.keras.layers.Dense(1, use_bias=False, kernel_regularizer=L2)
    model = tf.Module()
    model.layer = layer
    layer.build([None, 3])
    layer.kernel.assign(tf.ones([3, 1]))

    def advised():
        for penalty in layer.losses:
            tfreg.add_loss(penalty)
        return get_total(X, model)

    return lambda: scoped(lambda: get_total(X, model)), lambda: scoped(advised), 0.75


CASES = [
    forward_elsewhere,
    forward_in_a_branch,
    forward_in_a_vectorized_map,
    eager_without_a_scope,
    a_part_that_is_not_called,
    recompute_grad,
    two_passes_with_a_total_each,
    a_loss_of_two_models,
    an_eager_tensor_in_a_losses_collection,
    a_loss_outside_a_step,
    a_tensor_applied_outside_a_step,
    a_scale_that_is_a_function,
    integer_weights,
    ragged_weights,
    sparse_weights,
    a_scalar_with_weights,
    a_scalar_with_a_global_batch,
    complex_losses,
    a_function_as_the_model,
    a_keras_layer_with_its_own_penalty,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_an_error_advises_is_right(case):
    wrong, advised, want = case()
    with pytest.raises((TypeError, ValueError), match=", got .*: "):
        wrong()
    np.testing.assert_allclose(advised(), want, rtol=1e-6)  # float32 sums
