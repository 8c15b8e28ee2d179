"""The model owns its penalties: its total has them, once each, and nobody else's.

Each layer is y = x @ [1, ..., 1] on ones [2, 3]: its kernel costs 0.75 at a scale of
0.5, and its activity penalty sum(y) / batch is 3, or what `reads` says.
"""

import threading

import keras
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

import tfreg
from tfreg.collections import parts as model_parts

X = tf.ones([2, 3])
TERM, ACTIVITY = 0.75, 3.0


def ones(shape, seed=None):
    del seed
    return tf.ones(shape)


def make(**arguments):
    arguments.setdefault("kernel_regularizer", tfreg.l2_regularizer(0.5))
    return tfreg.layers.Dense(1, use_bias=False, kernel_initializer=ones, **arguments)


def make_active(**arguments):
    return make(activity_regularizer=tf.reduce_sum, **arguments)


class Encoder(tf.Module):
    """A model that adds a loss of its own, a mean of squares: 9."""

    def __init__(self, **arguments):
        super().__init__()
        self.layer = make(**arguments)

    def __call__(self, x):
        y = self.layer(x)
        self.penalize(y)
        return y

    def penalize(self, y):
        tfreg.add_loss(tf.reduce_mean(y**2), name="energy")


def get_total(outputs, model):
    return tfreg.losses.total_loss(0.0 * tf.reshape(outputs, [-1]), model)


def run(step, how):
    if how == "eager":
        with tfreg.step_scope():
            return step()
    return tf.function(step, jit_compile=how == "xla")()


def run_on(num_replicas, step):
    """Returns the sum of what the replicas' steps give, each with all of X."""
    devices = [f"CPU:{i}" for i in range(num_replicas)]
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, reduction)

    def make_step(build):
        with strategy.scope():
            function = build()
        return tf.function(lambda: strategy.reduce("SUM", strategy.run(function), None))

    return make_step(step)()


EVERYWHERE = pytest.mark.parametrize("how", ["eager", "traced", "xla"])
REPLICAS = pytest.mark.parametrize("num_replicas", [1, 2, 4])


@REPLICAS
def test_a_gan_has_two_totals_in_one_step(num_replicas):
    def build():
        generator, discriminator = make_active(), make_active()

        def step():
            with tf.GradientTape(persistent=True) as tape:
                fake = tf.repeat(generator(X), 3, axis=1)  # Threes.
                judged = discriminator(fake)  # Nines.
                g = get_total(judged, generator)
                d = get_total(judged, discriminator)
            slopes = [
                tape.gradient(total, layer.kernel)[0, 0]
                for total, layer in ((g, generator), (d, discriminator))
            ]
            return tf.stack([g, d, *slopes])

        return step

    got = run_on(num_replicas, build)
    # The penalty of the weights is 0.5 * w, that of the outputs their inputs.
    want = [TERM + ACTIVITY, TERM + 3 * ACTIVITY, 0.5 + 1.0, 0.5 + 3.0]
    np.testing.assert_allclose(got, want, rtol=1e-6)  # sums of float32


@REPLICAS
def test_a_teacher_costs_the_student_nothing(num_replicas):
    def build():
        teacher, student = Encoder(activity_regularizer=tf.reduce_sum), Encoder()
        return lambda: get_total(student(X) - tf.stop_gradient(teacher(X)), student)

    np.testing.assert_allclose(run_on(num_replicas, build), TERM + 9.0, rtol=1e-6)


@REPLICAS
def test_a_layer_that_two_models_share_counts_in_each(num_replicas):
    def build():
        shared = make_active()
        first, second = tf.Module(), tf.Module()
        first.layers, second.layers = [shared], [shared, make_active()]

        def step():
            outputs = shared(X)
            rest = second.layers[1](tf.repeat(outputs, 3, axis=1))
            return tf.stack([get_total(outputs, first), get_total(rest, second)])

        return step

    want = [TERM + ACTIVITY, 2 * TERM + ACTIVITY + 3 * ACTIVITY]
    np.testing.assert_allclose(run_on(num_replicas, build), want, rtol=1e-6)


@EVERYWHERE
def test_a_notebook_cell_that_is_run_again_starts_from_its_own_model(how):
    for _ in range(3):
        model = Encoder(activity_regularizer=tf.reduce_sum)
        total = run(lambda model=model: get_total(model(X), model), how)
        assert total.numpy() == TERM + ACTIVITY + 9.0


def test_a_model_made_in_a_thread_and_a_store_of_its_own_is_counted():
    models = []

    def work():
        with tfreg.Store().as_default():
            models.append(Encoder(activity_regularizer=tf.reduce_sum))
            models[0](X)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    total = tf.function(lambda: get_total(models[0](X), models[0]))()
    assert total.numpy() == TERM + ACTIVITY + 9.0


def make_keras():
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build([None, 3])
    model.layers[0].kernel.assign(np.ones([3, 1]))
    tfreg.apply_regularization(tfreg.l2_regularizer(0.5), [model.layers[0].kernel])
    return model


def make_sonnet():
    model = snt.Linear(1, with_bias=False, w_init=snt.initializers.Ones())
    model(X)
    tfreg.rules.apply(tfreg.rules.parse("l2(0.5)@kernel"), model)
    return model


class Plain:
    """A model that is no module."""

    def __init__(self):
        self.parts = {"a": [make()]}

    def __call__(self, x):
        return self.parts["a"][0](x)


class HasVariables:
    """A model that tells its variables and nothing else."""

    def __init__(self):
        layer = make()
        layer(X)
        self._call = lambda x: layer(x)
        self.trainable_variables = [layer.kernel]

    def __call__(self, x):
        return self._call(x)


def make_tf1():
    def forward(x):
        return tfreg.tf1.layers.fully_connected(
            x,
            1,
            activation_fn=None,
            weights_initializer=tf.ones_initializer(),
            weights_regularizer=tfreg.l2_regularizer(0.5),
            biases_initializer=None,
        )

    return tfreg.tf1.Model(forward)


KINDS = [make, make_keras, make_sonnet, Plain, HasVariables, make_tf1]


@EVERYWHERE
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_kind_of_model_owns_the_terms_of_its_variables(kind, how):
    other, model = make(), kind()
    other(X)
    model(X)
    assert run(lambda: get_total(model(X), model), how).numpy() == TERM


@pytest.mark.parametrize("hold", [list, tuple, lambda parts: dict(enumerate(parts))])
def test_several_parts_are_one_model(hold):
    encoder, decoder = make(), make()
    parts = hold([encoder, decoder])

    @tf.function
    def step():
        return get_total(decoder(tf.repeat(encoder(X), 3, 1)), parts)

    assert step().numpy() == 2 * TERM


def test_a_function_is_no_model():
    layer = make()
    with pytest.raises(TypeError, match="model must .*<function.*pass the layers"):
        get_total(X, lambda x: layer(x))


def test_a_term_of_two_models_is_split_by_the_variables():
    first, second = make(kernel_regularizer=None), make(kernel_regularizer=None)
    for layer in (first, second):
        layer(X)
    second.kernel.assign(2.0 * tf.ones([3, 1]))
    variables = [first.kernel, second.kernel]
    tfreg.apply_regularization(tfreg.l2_regularizer(0.5), variables)
    assert get_total(X, first).numpy() == TERM
    assert get_total(X, second).numpy() == 4 * TERM
    assert get_total(X, [first, second]).numpy() == 5 * TERM


@EVERYWHERE
def test_a_loss_belongs_to_the_module_whose_method_adds_it(how):
    first, second = Encoder(), Encoder()

    def step():
        outputs = first(X) + second(2.0 * X)
        return [get_total(outputs, m) for m in (first, second, [first, second])]

    totals = [total.numpy() for total in run(step, how)]
    assert totals == [TERM + 9.0, TERM + 36.0, 2 * TERM + 45.0]


@EVERYWHERE
def test_a_loss_of_a_plain_function_counts_once(how):
    model, other = make(), make()
    for layer in (model, other):
        layer(X)

    def step(last):
        tfreg.add_loss(tf.constant(2.0), name="energy")
        first = get_total(X, model), get_total(X, model)  # Once more, for a log.
        return [*first, *([get_total(X, other)] if last else [])]

    totals = run(lambda: step(False), how)
    assert [total.numpy() for total in totals] == [TERM + 2.0] * 2
    with pytest.raises(ValueError, match="energy.*two models.*method of the model"):
        run(lambda: step(True), how)


def test_the_loss_of_a_module_that_holds_the_model_is_the_steps():
    class Training(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = make()

        @tf.function
        def step(self, x):
            outputs = self.model(x)
            tfreg.add_loss(tf.constant(2.0), name="energy")
            return get_total(outputs, self.model)

    assert Training().step(X).numpy() == TERM + 2.0


@pytest.mark.parametrize("compiled", [False, True])
def test_the_loss_of_a_method_in_another_function_is_refused(compiled):
    model = Encoder()
    forward = tf.function(model.__call__, jit_compile=compiled)
    step = tf.function(lambda: get_total(forward(X), model))
    for _ in range(2):  # The second time `forward` is traced already.
        with pytest.raises(ValueError, match="energy.*same tf.function"):
            step()
    with tfreg.step_scope(), pytest.raises(ValueError, match="energy"):
        get_total(tf.function(model.__call__)(X), model)


def test_eager_prediction_of_a_model_with_a_loss_of_its_own_works():
    model = Encoder()
    np.testing.assert_array_equal(model(X), [[3.0], [3.0]])
    # But a total there, which would miss it, is refused; following the advice works.
    with tf.GradientTape(), pytest.raises(ValueError, match="energy.*step_scope"):
        get_total(model(X), model)
    with tfreg.step_scope():
        assert get_total(model(X), model).numpy() == TERM + 9.0
    assert tf.function(lambda: get_total(model(X), model))().numpy() == TERM + 9.0
    assert get_total(X, make()).numpy() == 0.0  # Another's, not built yet.


def test_parts_are_listed_once_each():
    shared = make()
    module = tf.Module()
    module.parts = [shared, {7: shared}, (keras.layers.Dense(1), shared)]
    shared(X)
    module.parts[2][0](X)
    parts = model_parts.list_parts(module)
    assert len({id(part) for part in parts}) == len(parts)
    assert sum(part is shared for part in parts) == 1
    kernels = [p for p in parts if hasattr(p, "assign")]
    assert len(kernels) == 3  # A kernel of ours; a kernel and a bias of Keras's.


def test_a_loaded_model_says_that_it_has_lost_its_penalties(tmp_path):
    model = tf.Module()
    model.layer = make()
    model.call = tf.function(model.layer.__call__).get_concrete_function(X)
    tf.saved_model.save(model, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    with pytest.warns(UserWarning, match="lost its penalties.*rules.apply"):
        assert get_total(X, loaded).numpy() == 0.0
    # What the message advises.
    tfreg.rules.apply("l2(0.5)@kernel", loaded)
    with pytest.warns(UserWarning):
        assert get_total(X, loaded).numpy() == TERM
    assert get_total(X, model).numpy() == TERM
