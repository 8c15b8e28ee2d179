"""Steps: what was computed where counts once in the right total, or is an error.

The model is y = x @ [1, 1, 1] on ones: its kernel costs 0.75, of an activity penalty
sum(y) / batch size there are 3, and the gradient of both is 0.5 + 1.
"""

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import losses
from tfreg.collections import scopes

TERM, ACTIVITY, SLOPE = 0.75, 3.0, 1.5
LOST = "must be computed where total_loss counts it, got it computed"


def ones(shape, seed):
    del seed
    return tf.ones(shape)


def make_dense(**arguments):
    arguments.setdefault("kernel_regularizer", tfreg.l2_regularizer(0.5))
    arguments.setdefault("activity_regularizer", tf.reduce_sum)
    return tfreg.layers.Dense(1, use_bias=False, kernel_initializer=ones, **arguments)


@pytest.fixture
def model():
    """Returns a layer that has its variable and has not been called for a step."""
    layer = make_dense()
    with tfreg.step_scope():
        layer(tf.ones([1, 3]))
    return layer


def inputs(batch=2):
    return tf.ones([batch, 3])


def get_total(outputs, model=None, scope=None):
    """Returns the total with a data loss that depends on the outputs and is 0."""
    return losses.total_loss(0.0 * tf.reshape(outputs, [-1]), model, scope=scope)


def train(forward, layer, owned=True):
    """Returns a step: total and gradient of one forward pass.

    The total is the layer's, or where it isn't `owned` of all that the store holds.
    """

    def step(x):
        with tf.GradientTape() as tape:
            total = get_total(forward(x), layer if owned else None)
        return total, tape.gradient(total, layer.kernel)

    return step


OWNED = pytest.mark.parametrize("owned", [True, False], ids=["model", "store"])


def check(outcome, total=TERM + ACTIVITY, slope=SLOPE):
    np.testing.assert_allclose(outcome[0], total, rtol=1e-6)  # sums of six
    np.testing.assert_allclose(outcome[1], np.full([3, 1], slope), rtol=1e-6)


def run(function, x, how):
    """Calls a function eagerly in a scope, traced, or compiled."""
    if how == "eager":
        with tfreg.step_scope():
            return function(x)
    return tf.function(function, jit_compile=how == "xla")(x)


EVERYWHERE = pytest.mark.parametrize("how", ["eager", "traced", "xla"])


# Once each


@OWNED
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_traced_again_for_another_shape_counts_once_each(model, compiled, owned):
    step = tf.function(train(model, model, owned), jit_compile=compiled)
    for batch in (2, 5, 1, 5, 2, 1):
        check(step(inputs(batch)))
    assert step.experimental_get_tracing_count() == 3


def test_a_step_that_builds_the_model_is_right_in_every_trace():
    layer = make_dense()
    step = tf.function(lambda x: get_total(layer(x), layer))
    for _ in range(3):
        assert step(inputs()).numpy() == TERM + ACTIVITY
    # TensorFlow traces a function that has made variables a second time.
    assert step.experimental_get_tracing_count() == 2
    assert len(tfreg.get_collection("regularization_losses")) == 1


@EVERYWHERE
def test_a_model_called_twice_has_its_term_once_and_each_activity(model, how):
    def forward(x):
        return model(x) + model(2.0 * x)

    outcome = run(train(forward, model), inputs(), how)
    check(outcome, TERM + 3 * ACTIVITY, 0.5 + 3.0)


@EVERYWHERE
def test_a_layer_in_two_models_has_its_term_once(how):
    shared = make_dense()
    first = tfreg.layers.Sequential([shared])
    second = tfreg.layers.Sequential([tf.identity, shared])

    def step(x):
        outputs = first(x) + second(x)
        return [get_total(outputs, m) for m in (None, [first, second], first, second)]

    for total in run(step, inputs(), how):  # Counted in each.
        assert total.numpy() == TERM + 2 * ACTIVITY


@EVERYWHERE
def test_every_step_has_the_values_of_its_own(model, how):
    def step(x):
        outcome = train(model, model)(x)
        model.kernel.assign_add(tf.ones([3, 1]))
        return outcome

    if how != "eager":
        step = tf.function(step, jit_compile=how == "xla")
    for value in (1.0, 2.0, 3.0):
        with tfreg.step_scope():
            outcome = step(inputs())
        check(outcome, TERM * value**2 + ACTIVITY * value, 0.5 * value + 1)


def test_evaluating_penalties_twice_in_a_step_counts_them_once_each(model):
    @tf.function
    def step(x):
        outputs = model(x)
        totals = [get_total(outputs), get_total(outputs)]
        return [*totals, losses.get_regularization_loss()]

    assert [t.numpy() for t in step(inputs())] == [TERM + ACTIVITY] * 3


@EVERYWHERE
def test_a_penalty_added_by_hand_counts_once(model, how):
    def step(x):
        outputs = model(x)
        tfreg.add_loss(tf.reduce_sum(outputs**2), name="energy")
        tfreg.add_to_collection("regularization_losses", tf.constant(0.5))
        return get_total(outputs)

    assert run(step, inputs(), how).numpy() == TERM + ACTIVITY + 18.0 + 0.5


def test_without_a_scope_nothing_of_a_trace_is_seen_in_eager_code(model):
    step = tf.function(train(model, model))
    check(step(inputs()))
    assert len(tfreg.get_collection("regularization_losses")) == 1
    with tfreg.step_scope():
        assert losses.get_regularization_loss().numpy() == TERM
        assert get_total(tf.zeros([1])).numpy() == TERM


# Forward pass and total in one place, wherever that is


def in_function(step, x):
    return tf.function(step)(x)


def in_compiled_function(step, x):
    return tf.function(step, jit_compile=True)(x)


def in_nested_function(step, x):
    return tf.function(lambda x: tf.function(step)(x))(x)


def in_while_loop(step, x):
    zeros = (tf.zeros([]), tf.zeros([3, 1]))

    def body(i, outcome):
        del outcome
        return i + 1, step(x)

    return tf.while_loop(lambda i, _: i < 3, body, (0, zeros))[1]


def in_autograph_loop(step, x):
    outcome = (tf.zeros([]), tf.zeros([3, 1]))
    for _ in tf.range(3):
        outcome = step(x)
    return outcome


def in_cond(step, x):
    none = (tf.zeros([]), tf.zeros([3, 1]))
    return tf.cond(tf.reduce_sum(x) > 0, lambda: step(x), lambda: none)


def in_switch_case(step, x):
    return tf.switch_case(tf.size(x) - tf.size(x), [lambda: step(x), lambda: step(-x)])


def in_map_fn(step, x):
    signature = (tf.TensorSpec([]), tf.TensorSpec([3, 1]))
    found = tf.map_fn(step, x[:, None], fn_output_signature=signature)
    return found[0][0], found[1][1]


def in_vectorized_map(step, x):
    found = tf.vectorized_map(lambda row: step(row[None]), x)
    return found[0][0], found[1][1]


PLACES = [
    in_function,
    in_compiled_function,
    in_nested_function,
    in_while_loop,
    in_autograph_loop,
    in_cond,
    in_switch_case,
    in_map_fn,
    in_vectorized_map,
]


@pytest.mark.parametrize("how", ["eager", "traced", "traced in a scope"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_step_is_right_wherever_it_is(model, place, how):
    step = train(model, model)
    if how == "eager" and place is not in_function:

        def scoped(x):
            with tfreg.step_scope():
                return train(model, model)(x)

        step = scoped

    def call(x):
        return place(step, x)

    def call_in_scope(x):
        with tfreg.step_scope():
            return place(step, x)

    functions = {"traced": tf.function(call), "eager": call}
    function = functions.get(how) or tf.function(call_in_scope)
    for _ in range(2):
        check(function(inputs()))


def test_a_nested_function_traced_earlier_is_right(model):
    inner = tf.function(train(model, model))
    check(inner(inputs()))
    for batch in (2, 5):
        outer = tf.function(lambda x: inner(x))
        check(outer(inputs(batch)))


def test_a_forward_pass_in_a_custom_gradient_is_counted(model):
    @tf.custom_gradient
    def forward(x):
        def gradient(upstream, variables):
            return upstream, [tf.zeros_like(v) for v in variables]

        return model(x), gradient

    for how in ("eager", "traced", "xla"):
        check(run(train(forward, model), inputs(), how))


# Forward pass in one place, total in another: an error that says what to write


def forward_in_function(model, x):
    return tf.function(lambda x: model(x))(x)


def forward_in_compiled_function(model, x):
    return tf.function(lambda x: model(x), jit_compile=True)(x)


def forward_in_while_loop(model, x):
    start = (0, tf.zeros([2, 1]))
    return tf.while_loop(lambda i, _: i < 1, lambda i, _: (i + 1, model(x)), start)[1]


def forward_in_cond(model, x):
    return tf.cond(tf.size(x) > 0, lambda: model(x), lambda: tf.zeros([2, 1]))


def forward_in_switch_case(model, x):
    return tf.switch_case(tf.size(x) - 6, [lambda: model(x), lambda: tf.zeros([2, 1])])


def forward_in_map_fn(model, x):
    return tf.map_fn(lambda row: model(row[None])[0], x)


def forward_in_vectorized_map(model, x):
    return tf.vectorized_map(lambda row: model(row[None])[0], x)


def forward_in_a_scope_that_ended(model, x):
    with tfreg.step_scope():
        return model(x)


HIDDEN = [
    forward_in_function,
    forward_in_compiled_function,
    forward_in_while_loop,
    forward_in_cond,
    forward_in_switch_case,
    forward_in_map_fn,
    forward_in_vectorized_map,
    forward_in_a_scope_that_ended,
]


def advice(place, name="dense/activity"):
    """Returns what the message has to say."""
    return f"{name}.* {LOST} {place}.*same tf.function.*step_scope"


@OWNED
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("forward", HIDDEN, ids=lambda forward: forward.__name__)
def test_a_total_outside_of_the_place_of_the_forward_pass_is_refused(
    model, forward, compiled, owned
):
    if forward is forward_in_a_scope_that_ended and not owned:
        pytest.skip("a store can't know that nobody was to count it")
    step = train(lambda x: forward(model, x), model, owned)
    for _ in range(2):
        with pytest.raises(ValueError, match=advice("")):
            tf.function(step, jit_compile=compiled)(inputs())


@pytest.mark.parametrize("with_tape", [True, False])
@pytest.mark.parametrize(
    "forward",
    [
        forward_in_function,
        forward_in_compiled_function,
        forward_in_vectorized_map,
        forward_in_a_scope_that_ended,
        lambda model, x: model(x),
    ],
    ids=["function", "compiled", "vectorized_map", "ended", "no scope"],
)
def test_in_eager_code_a_total_elsewhere_is_refused(model, forward, with_tape):
    def step(x):
        if with_tape:
            return train(lambda x: forward(model, x), model)(x)
        return get_total(forward(model, x), model)

    for _ in range(2):
        with pytest.raises(ValueError, match=advice("")):
            step(inputs())


@pytest.mark.parametrize("with_tape", [True, False])
@pytest.mark.parametrize("forward", [forward_in_function, forward_in_vectorized_map])
def test_a_function_dropped_in_an_eager_step_is_not_forgotten(
    model, forward, with_tape
):
    def dropped(x):
        outputs = forward(model, x)
        gc.collect()
        return outputs

    def evaluate(x):
        return get_total(dropped(x), model)

    step = train(dropped, model) if with_tape else evaluate
    with tfreg.step_scope(), pytest.raises(ValueError, match=advice("elsewhere")):
        step(inputs())


def test_in_eager_code_branches_and_loops_belong_to_the_step(model):
    for forward in (
        forward_in_cond,
        forward_in_switch_case,
        forward_in_map_fn,
        forward_in_while_loop,
    ):
        times = 2 if forward is forward_in_map_fn else 1  # Rows of one example.
        step = train(lambda x, forward=forward: forward(model, x), model)
        with tfreg.step_scope():
            check(step(inputs()), TERM + times * ACTIVITY, 0.5 + times)


@OWNED
@pytest.mark.parametrize("total_first", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_forward_pass_in_a_function_traced_earlier_is_refused(
    model, compiled, total_first, owned
):
    """It runs no Python any more: only what its body is tells."""
    predict = tf.function(lambda x: model(x), jit_compile=compiled)
    predict(inputs())
    counted = model if owned else None

    def step(x):
        if total_first:
            return get_total(predict(x) + 1.0, counted)
        return get_total(tf.function(lambda x: predict(x))(x), counted)

    with pytest.raises(ValueError, match=advice("(elsewhere|in another function)")):
        tf.function(step)(inputs())
    # Also where the same layer is called in the step, as for a second view.
    with pytest.raises(ValueError, match=advice("in another function")):
        tf.function(lambda x: get_total(model(x) + predict(x), counted))(inputs())


@pytest.mark.parametrize("scoped", [False, True])
def test_eager_outputs_in_a_compiled_loss_are_refused(model, scoped):
    compiled = tf.function(lambda y: get_total(y, model))

    def step(x):
        with tf.GradientTape() as tape:
            total = compiled(model(x))
        return total, tape.gradient(total, model.kernel)

    step = tfreg.step_scope()(step) if scoped else step
    with pytest.raises(ValueError, match=advice("")):
        step(inputs())


def test_a_penalty_handed_out_of_a_branch_is_counted(model):
    def branch(x):
        outputs = model(x)
        penalties = tfreg.get_collection("regularization_losses", "dense/activity")
        return outputs, tf.add_n(penalties)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            outputs, penalty = tf.cond(
                tf.size(x) > 0,
                lambda: branch(x),
                lambda: (tf.zeros([2, 1]), tf.zeros([])),
            )
            tfreg.add_loss(penalty, name="dense/activity")
            total = get_total(outputs, model)
        return total, tape.gradient(total, model.kernel)

    check(step(inputs()))


@pytest.mark.parametrize("how", ["eager", "traced", "xla"])
def test_a_penalty_without_gradient_in_recompute_grad_is_refused(model, how):
    step = train(tf.recompute_grad(lambda x: model(x)), model)
    message = "dense/activity.* must have a gradient.*recompute_grad.*penalize_activity"
    with pytest.raises(ValueError, match=message):
        run(step, inputs(), how)
    # Where there is no gradient to be lost it counts.
    total = run(
        lambda x: get_total(tf.recompute_grad(lambda x: model(x))(x), model),
        inputs(),
        how,
    )
    assert total.numpy() == TERM + ACTIVITY


@EVERYWHERE
@pytest.mark.parametrize("place", ["stop_recording", "before the tape", "function"])
def test_a_pass_that_no_tape_records_is_refused(model, place, how):
    def step(x):
        outputs = model(x) if place == "before the tape" else None
        with tf.GradientTape() as tape:
            if place == "stop_recording":
                with tape.stop_recording():
                    outputs = model(x)
            if place == "function":

                @tf.recompute_grad
                def forward(x):
                    return model(model(x) * tf.ones([1, 3]))

                outputs = forward(x)
            return get_total(outputs, model)

    with pytest.raises(ValueError, match="dense/activity.* must have a gradient"):
        run(step, inputs(), how)


@EVERYWHERE
def test_a_pass_for_a_log_in_a_scope_of_its_own_is_in_no_total(model, how):
    def step(x):
        with tfreg.step_scope():
            logged = model(5.0 * x)
        outcome = train(model, model)(x)
        del logged
        return outcome

    check(run(step, inputs(), how))


@pytest.mark.parametrize("how", ["eager", "traced", "xla"])
def test_outputs_of_recompute_grad_are_penalized_outside_of_it(how):
    layer = make_dense(activity_regularizer=None)
    run(layer, inputs(), "eager")

    def forward(x):
        outputs = tf.recompute_grad(lambda x: layer(x))(x)
        tfreg.penalize_activity(tf.reduce_sum, outputs)
        return outputs

    check(run(train(forward, layer), inputs(), how))


def test_run_functions_eagerly_is_named_where_it_makes_a_function_no_step(model):
    step = tf.function(train(model, model))
    check(step(inputs()))
    tf.config.run_functions_eagerly(True)
    try:
        message = "run_functions_eagerly disables tf.function"
        with pytest.raises(ValueError, match=message):
            step(inputs())
        with tfreg.step_scope():
            check(step(inputs()))
    finally:
        tf.config.run_functions_eagerly(False)


# Counted twice


def steps_in_a_row(step, num_steps=2):
    def steps(x):
        return [step(x) for _ in range(num_steps)][-1]

    return steps


@EVERYWHERE
def test_a_second_forward_pass_and_total_in_a_step_is_refused(model, how):
    steps = steps_in_a_row(train(model, model))
    message = "dense/activity.*a second total_loss after another forward pass"
    with pytest.raises(ValueError, match=message):
        run(steps, inputs(), how)


@pytest.mark.parametrize("scoped", [True, False])
def test_a_total_in_a_function_inside_the_trace_of_the_forward_pass_is_refused(
    model, scoped
):
    """At its second call it would run no Python and count the first penalty again."""
    compiled = tf.function(lambda y: get_total(y, model))

    @tf.function
    def step(x):
        if scoped:
            with tfreg.step_scope():
                return compiled(model(x))
        return compiled(model(x))

    with pytest.raises(
        ValueError, match=advice("outside the tf.function of total_loss")
    ):
        step(inputs())


@EVERYWHERE
def test_steps_in_a_row_in_scopes_of_their_own_count_once_each(model, how):
    def scoped(x):
        with tfreg.step_scope():
            return train(model, model)(x)

    steps = steps_in_a_row(scoped, 3)
    check(steps(inputs()) if how == "eager" else run(steps, inputs(), how))


@EVERYWHERE
def test_accumulated_gradients_are_those_of_the_whole_batch(model, how, rng):
    x = tf.constant(rng.normal(size=(6, 3)), tf.float32)

    def accumulate(x):
        gradient = tf.zeros([3, 1])
        for part in tf.split(x, 3):
            with tfreg.step_scope():
                gradient += train(model, model)(part)[1] / 3.0
        return gradient

    got = accumulate(x) if how == "eager" else run(accumulate, x, how)
    want = 0.5 + x.numpy().mean(0, keepdims=True).T
    np.testing.assert_allclose(got, want, rtol=1e-5)  # sums of 6 in another order


@pytest.mark.parametrize("how", ["eager", "traced"])
def test_totals_of_several_scopes_and_of_everything_may_be_taken(how):
    first, second = make_dense(name="a"), make_dense(name="b")

    def step(x):
        outputs = first(x) + 2.0 * second(x)
        scopes = ("a/", "b/", None, "nothing")
        return [get_total(outputs, scope=scope) for scope in scopes]

    totals = run(step, inputs(), how)
    both = TERM + ACTIVITY
    assert [t.numpy() for t in totals] == [both, both, 2 * both, 0.0]


def make_gan():
    generator = make_dense(name="generator")
    discriminator = make_dense(name="discriminator")
    x = inputs()
    for layer in (generator, discriminator):
        with tfreg.step_scope():
            layer(x)
    return generator, discriminator


@EVERYWHERE
def test_two_networks_of_a_gan_have_totals_of_their_own(how):
    generator, discriminator = make_gan()

    def step(x):
        with tf.GradientTape(persistent=True) as tape:
            fake = tf.repeat(generator(x), 3, axis=1)  # Threes.
            judged = discriminator(fake)
            first = get_total(judged, generator)
            second = get_total(judged, discriminator)
        gradients = [
            tape.gradient(total, layer.kernel)
            for total, layer in ((first, generator), (second, discriminator))
        ]
        return first, second, *gradients

    first, second, one, other = run(step, inputs(), how)
    check((first, one))
    check((second, other), TERM + 3 * ACTIVITY, 0.5 + 3.0)


@EVERYWHERE
def test_the_phases_of_a_gan_in_scopes_of_their_own_are_right(how):
    generator, discriminator = make_gan()

    def phase(x, layer):
        with tfreg.step_scope(), tf.GradientTape() as tape:
            judged = discriminator(tf.repeat(generator(x), 3, axis=1))
            total = get_total(judged, layer)
        return total, tape.gradient(total, layer.kernel)

    def step(x):
        return phase(x, discriminator), phase(x, generator)

    second, first = step(inputs()) if how == "eager" else run(step, inputs(), how)
    check(first)
    check(second, TERM + 3 * ACTIVITY, 0.5 + 3.0)


# No false alarms in ordinary use


def test_eager_prediction_costs_nothing_and_a_later_compiled_step_is_right():
    calls = []

    def penalize(y):
        calls.append(y)
        return tf.reduce_sum(y)

    layer = make_dense(activity_regularizer=penalize)
    for _ in range(3):
        layer(inputs())
    assert calls == []
    step = tf.function(train(layer, layer))
    for batch in (2, 5):
        check(step(inputs(batch)))
        layer(inputs(batch))
    assert len(calls) == 2


def test_prediction_under_a_tape_does_not_disturb_a_later_step(model):
    with tf.GradientTape() as tape:
        x = inputs()
        tape.watch(x)
        outputs = model(x)
    np.testing.assert_array_equal(tape.gradient(outputs, x), np.ones([2, 3]))
    check(tf.function(train(model, model))(inputs()))
    with tfreg.step_scope():
        check(train(model, model)(inputs()))


@pytest.mark.parametrize("signature", [None, [tf.TensorSpec([None, 3])]])
@pytest.mark.parametrize("compiled", [False, True])
def test_functions_for_prediction_and_validation_live_beside_the_step(
    model, compiled, signature
):
    options = {"jit_compile": compiled, "input_signature": signature}
    predict = tf.function(lambda x: model(x), **options)
    validate = tf.function(lambda x: get_total(model(x), model), **options)
    step = tf.function(train(model, model), **options)
    for batch in (2, 4):
        assert predict(inputs(batch)).shape == [batch, 1]
        check(step(inputs(batch)))
        assert validate(inputs(batch)).numpy() == TERM + ACTIVITY
        predict.get_concrete_function(inputs(batch))
        check(step.get_concrete_function(inputs(batch))(inputs(batch)))
        with tfreg.step_scope():
            check(train(model, model)(inputs(batch)))
        assert model(inputs(batch)).shape == [batch, 1]
        assert losses.get_regularization_loss().numpy() == TERM


def test_a_part_of_a_model_trains_alone_whatever_was_done_with_the_rest():
    encoder, decoder = make_dense(name="encoder"), make_dense(name="decoder")
    for build in (encoder, decoder):
        build(inputs())
    step = train(encoder, encoder)
    check(tf.function(step)(inputs()))
    with tf.GradientTape():
        decoder(inputs())
    with tfreg.step_scope():
        decoder(inputs())
        check(step(inputs()))
    with pytest.raises(ValueError, match=advice("nowhere", "decoder/activity")):
        tf.function(lambda x: get_total(encoder(x), [encoder, decoder]))(inputs())


@EVERYWHERE
def test_pseudo_labels_in_a_scope_of_their_own_do_not_count(model, how):
    def forward(x):
        with tfreg.step_scope():
            target = tf.stop_gradient(model(2.0 * x))
        return model(x) - target

    check(run(train(forward, model), inputs(), how))


def test_pseudo_labels_of_a_compiled_function_in_a_scope_do_not_count(model):
    @tf.function
    def label(x):
        with tfreg.step_scope():
            return model(x)

    label(inputs())
    step = train(lambda x: model(x) - tf.stop_gradient(label(x)), model)
    check(tf.function(step)(inputs()))


def test_a_regularizer_that_gives_none_is_no_penalty_to_be_lost():
    for regularizer in (tfreg.l1_regularizer(0.0), tfreg.no_regularizer):
        layer = make_dense(activity_regularizer=regularizer)
        with tf.GradientTape():
            layer(inputs())
        step = train(layer, layer)
        check(tf.function(step)(inputs()), TERM, 0.5)
        with tfreg.step_scope():
            check(step(inputs()), TERM, 0.5)
        del layer, step
        gc.collect()


def test_keras_layers_in_between_change_nothing(model):
    class Wrapped(keras.layers.Layer):
        def call(self, inputs):
            return model(inputs)

    network = keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(3, "linear", False, "identity"),
            Wrapped(),
        ]
    )
    network.layers[0].kernel.assign(np.eye(3))
    step = train(network, model)
    check(tf.function(step)(inputs()))
    check(tf.function(step, jit_compile=True)(inputs()))
    with tfreg.step_scope():
        check(step(inputs()))
    network.predict(np.ones([2, 3]), verbose=0)
    check(tf.function(step)(inputs(4)))


def test_a_data_pipeline_that_calls_the_model_does_not_disturb_the_step(model):
    rows = tf.data.Dataset.from_tensor_slices(tf.ones([6, 3])).batch(2)
    labelled = rows.map(lambda x: (x, model(x)))
    step = tf.function(train(model, model))
    for x, y in labelled:
        np.testing.assert_array_equal(y, [[3.0], [3.0]])
        check(step(x))
        with tfreg.step_scope():
            check(train(model, model)(x))


def test_an_exported_model_can_be_a_teacher_beside_the_one_it_was(model, tmp_path):
    module = tf.Module()
    module.model = model
    signature = [tf.TensorSpec([None, 3])]
    module.predict = tf.function(lambda x: model(x), input_signature=signature)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.predict(inputs()), [[3.0], [3.0]])
    check(tf.function(train(model, model))(inputs()))
    step = train(lambda x: model(x) - loaded.predict(x), model)
    check(tf.function(step)(inputs()))
    with tfreg.step_scope():
        check(step(inputs()))


def test_a_v1_graph_is_a_step():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        layer = make_dense()
        total = get_total(layer(tf.ones([2, 3])))
        gradient = tf.compat.v1.gradients(total, layer.kernel)[0]
        session.run(tf.compat.v1.global_variables_initializer())
        check(session.run((total, gradient)))


def test_the_model_of_another_thread_does_not_disturb_a_step(model):
    """Both in one store: a service predicts and another model is in its step."""
    other = make_dense(name="other")
    store = tfreg.get_default_store()
    entered, leave = threading.Event(), threading.Event()

    def work():
        with store.as_default(), tfreg.step_scope(), tf.GradientTape():
            other(inputs())
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    try:
        with tfreg.step_scope():
            check(train(model, model)(inputs()))
        check(tf.function(train(model, model))(inputs()))
    finally:
        leave.set()
        thread.join()


# Exceptions


class Failure(Exception):
    pass


@EVERYWHERE
def test_an_exception_ends_the_step(model, how):
    def fail(x):
        tfreg.add_loss(tf.reduce_sum(model(x)), name="energy")
        raise Failure

    kept = []  # With all their frames, as in a notebook.
    for _ in range(2):
        with pytest.raises(Failure) as caught:
            run(fail, inputs(), how)
        kept.append(caught)
        check(run(train(model, model), inputs(), how))
        keys = tfreg.get_all_collection_keys()
        assert keys == ["regularization_losses", "weights"]


def test_an_exception_in_a_scope_does_not_disturb_the_step_of_another_model(model):
    with pytest.raises(Failure) as kept, tfreg.step_scope(), tf.GradientTape():
        model(inputs())
        tfreg.add_loss(tf.constant(1.0), name="energy")
        raise Failure
    other = make_dense(name="other", kernel_regularizer=None)
    other(inputs())
    with tfreg.step_scope():
        check(train(other, other)(inputs()), ACTIVITY, 1.0)
    check(tf.function(train(other, other))(inputs()), ACTIVITY, 1.0)
    assert kept is not None


def test_a_scope_can_decorate_an_eager_step(model):
    step = tfreg.step_scope()(train(model, model))
    for _ in range(3):
        check(step(inputs()))


def test_scopes_nest_and_end_in_the_right_order(model):
    with tfreg.step_scope():
        tfreg.add_loss(tf.constant(1.0), name="outer")
        with pytest.raises(Failure), tfreg.step_scope():
            tfreg.add_loss(tf.constant(2.0), name="inner")
            assert losses.get_regularization_loss().numpy() == TERM + 3.0
            raise Failure
        assert losses.get_regularization_loss().numpy() == TERM + 1.0
    assert losses.get_regularization_loss().numpy() == TERM


def test_a_retrace_that_fails_leaves_the_function_as_it_was(model):
    @tf.function
    def step(x):
        total = get_total(model(x))
        if x.shape[0] == 5:
            raise Failure
        return total

    assert step(inputs()).numpy() == TERM + ACTIVITY
    with pytest.raises(Failure):
        step(inputs(5))
    assert step(inputs(4)).numpy() == TERM + ACTIVITY
    assert step(inputs()).numpy() == TERM + ACTIVITY


# The number of the step


def count_up(step):
    return tf.cast(step, tf.float32) + 1.0


def make_scheduled():
    layer = make_dense(
        kernel_regularizer=tfreg.l2_regularizer(count_up),
        activity_regularizer=tfreg.l1_regularizer(count_up),
    )
    with tfreg.step_scope(step=0):
        layer(inputs())
    return layer


def number(value):
    return tf.Variable(value, dtype=tf.int64)


def check_scheduled(outcome, step):
    """At step k the kernel costs 1.5 (k + 1) and the activity 3 (k + 1)."""
    check(outcome, 4.5 * (step + 1), 2.0 * (step + 1))


@pytest.mark.parametrize("make", [int, tf.constant, number], ids=lambda make: "")
def test_a_scale_follows_the_number_of_an_eager_step(make):
    layer = make_scheduled()
    for k in range(3):
        with tfreg.step_scope(step=make(k)):
            check_scheduled(train(layer, layer)(inputs()), k)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_scale_follows_a_variable_without_another_trace(where, compiled):
    layer, step = make_scheduled(), number(0)

    def scoped(x):
        with tfreg.step_scope(step=step):
            return train(layer, layer)(x)

    inner = scoped if where == "inside" else train(layer, layer)
    function = tf.function(inner, jit_compile=compiled)
    for k in range(3):
        with tfreg.step_scope(step=step):
            check_scheduled(function(inputs()), k)
        step.assign_add(1)
    assert function.experimental_get_tracing_count() == 1


def test_a_scale_follows_a_tensor_of_the_trace():
    layer = make_scheduled()

    @tf.function
    def function(x, k):
        with tfreg.step_scope(step=k):
            return train(layer, layer)(x)

    for k in range(3):
        check_scheduled(function(inputs(), tf.constant(k)), k)
    assert function.experimental_get_tracing_count() == 1


def test_a_number_that_would_be_a_constant_in_the_trace_is_refused():
    layer = make_scheduled()
    function = tf.function(train(layer, layer))
    with (
        pytest.raises(ValueError, match="scale must be known in this step"),
        tfreg.step_scope(step=3),
    ):
        function(inputs())


@pytest.mark.parametrize("makes_tensor", [True, False])
def test_a_number_that_a_function_inside_would_keep_is_refused(makes_tensor):
    layer = make_scheduled()
    inner = tf.function(train(layer, layer))

    @tf.function
    def steps(x):
        for k in range(2):
            with tfreg.step_scope(step=tf.constant(k) if makes_tensor else k):
                outcome = inner(x)  # Traced for k = 0, and not again for k = 1.
        return outcome

    with pytest.raises(ValueError, match="scale must be known in this step"):
        steps(inputs())


def test_a_function_inside_follows_a_variable():
    layer, step = make_scheduled(), number(0)
    inner = tf.function(train(layer, layer))

    @tf.function
    def steps(x):
        for _ in range(2):
            with tfreg.step_scope(step=step):
                outcome = inner(x)
            step.assign_add(1)
        return outcome

    check_scheduled(steps(inputs()), 1)
    check_scheduled(steps(inputs()), 3)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_scale_follows_the_counter_of_a_loop(compiled):
    layer = make_scheduled()

    @tf.function(jit_compile=compiled)
    def loop(x):
        outcome = (tf.zeros([]), tf.zeros([3, 1]))
        for k in tf.range(4):
            with tfreg.step_scope(step=k):
                outcome = train(layer, layer)(x)
        return outcome

    check_scheduled(loop(inputs()), 3)


def test_a_scale_that_is_a_variable_is_read_at_each_step():
    scale = tf.Variable(0.0)
    layer = make_dense(
        kernel_regularizer=tfreg.l2_regularizer(scale), activity_regularizer=None
    )
    layer(inputs())
    function = tf.function(lambda x: get_total(layer(x)))
    for value in (0.5, 1.0, 0.0):
        scale.assign(value)
        assert function(inputs()).numpy() == 1.5 * value
    assert function.experimental_get_tracing_count() == 1


# Replicas


def make_strategy(num_replicas):
    devices = [f"CPU:{i}" for i in range(num_replicas)]
    # Without collectives, whose groups strategies of several sizes would fight for.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def make_replicated(num_replicas, **arguments):
    strategy = make_strategy(num_replicas)
    with strategy.scope():
        layer = make_dense(**arguments)
        with tfreg.step_scope(step=0):
            layer(inputs())
    return strategy, layer


def get_local(strategy, value):
    return [float(v) for v in strategy.experimental_local_results(value)]


def get_share(outputs, model, num_examples):
    """Returns this replica's share of the total, without asking the others."""
    data_loss = 0.0 * outputs[:, 0]
    return losses.total_loss(data_loss, model, global_batch_size=num_examples)


def scale_by_replica(x):
    context = tf.distribute.get_replica_context()
    return x * tf.cast(context.replica_id_in_sync_group + 1, x.dtype)


@pytest.mark.parametrize("how", ["traced", "traced inside", "xla inside", "eager"])
@pytest.mark.parametrize("num_replicas", [1, 2, 4])
def test_a_replica_counts_its_own_activities_and_nobody_elses(num_replicas, how):
    strategy, layer = make_replicated(num_replicas, kernel_regularizer=None)

    def replica(x):
        outputs = layer(scale_by_replica(x))
        shares = get_share(outputs, layer, 2 * num_replicas)
        return losses.get_regularization_loss(), shares

    def scoped(x):
        with tfreg.step_scope():
            return replica(x)

    compiled = tf.function(replica, jit_compile=True)
    inner = {
        "traced inside": tf.function(replica),
        "xla inside": lambda x: compiled(x),  # A bare one MirroredStrategy takes apart.
        "eager": scoped,
    }.get(how, replica)

    def step(x):
        return strategy.run(inner, (x,))

    if how != "eager":
        step = tf.function(step)
    for _ in range(2):
        mine, shares = step(inputs())
        want = [ACTIVITY * (i + 1) for i in range(num_replicas)]
        assert get_local(strategy, mine) == want
        # The share of a replica: all replicas have two examples each.
        assert get_local(strategy, shares) == [w / num_replicas for w in want]


@pytest.mark.parametrize("how", ["traced", "eager"])
def test_a_scope_around_the_run_holds_for_every_replica(how):
    strategy, layer = make_replicated(
        2,
        kernel_regularizer=None,
        activity_regularizer=tfreg.l1_regularizer(count_up),
    )
    step = number(0)

    def replica(x):
        outputs = layer(scale_by_replica(x))
        return losses.get_regularization_loss(), get_total(outputs, layer)

    def scoped(x):
        with tfreg.step_scope(step=step):
            return strategy.run(replica, (x,))

    run_step = tf.function(scoped) if how == "traced" else scoped
    for k in range(3):
        mine, shares = run_step(inputs())
        assert get_local(strategy, mine) == [3.0 * (k + 1), 6.0 * (k + 1)]
        assert get_local(strategy, shares) == [1.5 * (k + 1), 3.0 * (k + 1)]
        step.assign_add(1)


def test_a_variable_as_number_around_a_compiled_run_reaches_the_replicas():
    strategy, layer = make_replicated(
        2, activity_regularizer=tfreg.l1_regularizer(count_up)
    )
    step = number(0)

    @tf.function
    def run_step(x):
        def replica(x):
            outputs = layer(x)
            return losses.get_regularization_loss("dense/activity"), outputs

        return strategy.run(replica, (x,))

    for k in range(3):
        with tfreg.step_scope(step=step):
            assert get_local(strategy, run_step(inputs())[0]) == [3.0 * (k + 1)] * 2
        step.assign_add(1)


def test_replicas_that_meet_between_forward_pass_and_total_count_their_own():
    """As for batch statistics: each finds the losses of all the others unread."""
    strategy, layer = make_replicated(4, kernel_regularizer=None)

    def replica(x):
        outputs = layer(scale_by_replica(x))
        context = tf.distribute.get_replica_context()
        outputs += context.all_reduce("SUM", tf.reduce_mean(outputs))
        return get_share(outputs, layer, 8)

    @tf.function
    def step(x):
        return strategy.run(replica, (x,))

    assert get_local(strategy, step(inputs())) == [0.75, 1.5, 2.25, 3.0]


def test_replicas_in_a_loop_of_steps_count_once_each():
    strategy, layer = make_replicated(2)

    def replica(x):
        with tf.GradientTape() as tape:
            share = get_share(layer(x), layer, 4)
        return share, tape.gradient(share, layer.kernel)

    @tf.function
    def steps(x):
        total, gradient = tf.zeros([]), tf.zeros([3, 1])
        for _ in tf.range(3):
            found = strategy.run(replica, (x,))
            total, gradient = (strategy.reduce("SUM", v, None) for v in found)
        return total, gradient

    check(steps(inputs()))


def test_a_scope_in_a_replica_is_its_own():
    strategy, layer = make_replicated(2, kernel_regularizer=None)

    @tf.function
    def step(x):
        def replica(x):
            with tfreg.step_scope():
                layer(x)
                first = losses.get_regularization_loss()
            with tfreg.step_scope():
                return first, get_total(layer(2.0 * x), layer)

        with tfreg.step_scope():
            return strategy.run(replica, (x,))

    first, second = step(inputs())
    assert get_local(strategy, first) == [ACTIVITY] * 2
    assert get_local(strategy, second) == [2 * ACTIVITY / 2] * 2


@pytest.mark.parametrize("inside", [True, False])
def test_a_total_outside_of_the_replicas_that_computed_a_penalty_is_refused(inside):
    strategy, layer = make_replicated(2)

    @tf.function
    def step(x):
        outputs = strategy.run(layer, (x,))
        if inside:
            with strategy.scope():
                return get_total(tf.zeros([1]), layer)
        del outputs
        return get_total(tf.zeros([1]), layer)

    with pytest.raises(ValueError, match=advice("elsewhere")):
        step(inputs())


def test_a_total_in_the_replicas_of_a_penalty_outside_of_them_is_refused():
    strategy, layer = make_replicated(2)

    @tf.function
    def step(x):
        outputs = layer(x)
        return strategy.run(lambda y: get_total(y, layer), (outputs,))

    with pytest.raises(ValueError, match=advice("elsewhere")):
        step(inputs())


def test_eager_replicas_without_a_scope_are_refused():
    strategy, layer = make_replicated(2)
    with pytest.raises(ValueError, match=advice("nowhere")):
        strategy.run(lambda x: get_total(layer(x), layer), (inputs(),))


@pytest.mark.parametrize("built", ["in the scope", "outside of it"])
def test_a_model_built_in_the_replicas_has_its_terms_once(built):
    strategy = make_strategy(2)
    if built == "in the scope":
        with strategy.scope():
            layer = make_dense()
    else:
        layer = make_dense()

    @tf.function
    def step(x):
        return strategy.run(lambda x: get_total(layer(x), layer), (x,))

    assert sum(get_local(strategy, step(inputs()))) == TERM + ACTIVITY
    assert len(tfreg.get_default_store().get_terms()) == 1


def test_two_threads_run_replicas_of_their_own():
    totals = [[], []]

    def work(i):
        strategy, layer = make_replicated(2)

        def replica(x):
            return get_total(layer((i + 1.0) * x), layer)

        step = tf.function(lambda x: strategy.run(replica, (x,)))
        for batch in range(1, 5):
            shares = step(tf.ones([batch, 3]))
            totals[i].append(sum(get_local(strategy, shares)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [[TERM + ACTIVITY] * 4, [TERM + 2 * ACTIVITY] * 4]


def test_nothing_of_a_step_outlives_its_graph(model):
    step = tf.function(train(model, model))
    step(inputs())
    graph = weakref.ref(step.get_concrete_function(inputs()).graph)
    del step
    gc.collect()
    assert graph() is None
    check(tf.function(train(model, model))(inputs()))


# The examples of a step.


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize("make", [int, tf.constant, number], ids=["int", "tensor", "v"])
def test_the_examples_of_a_step_are_read_where_its_number_can_be(make, is_traced):
    seen = {}
    variables = [number(value) for value in (3, 8, 4)]

    def note(name):
        examples = scopes.get_examples()
        assert (examples is None) == (scopes.get_step_number() is None), name
        seen[name] = examples
        return tf.zeros([])

    def run():
        values = variables if make is number else [make(value) for value in (3, 8, 4)]
        note("before")
        with tfreg.step_scope(values[0], examples=tuple(values[1:])):
            note("inside")
            assert all(a is b for a, b in zip(seen["inside"], values[1:], strict=True))
            with tfreg.step_scope():
                note("in a scope")
            tf.cond(tf.random.uniform([]) < 2, lambda: note("branch"), lambda: 0.0)
            tf.function(lambda: note("in a function"))()
        note("after")

    (tf.function(run) if is_traced else run)()
    known = {name for name, examples in seen.items() if examples is not None}
    inside = {"inside", "in a scope", "branch"}
    assert known == inside | ({"in a function"} if make is number else set())


def test_the_examples_of_the_innermost_scope_count():
    assert scopes.get_examples() is None
    with tfreg.step_scope(examples=(0, 4)):
        assert scopes.get_step_number() is None
        with tfreg.step_scope(step=1, examples=(4, 2)):
            assert scopes.get_examples() == (4, 2)
        assert scopes.get_examples() == (0, 4)
