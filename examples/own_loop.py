"""Trains a perceptron in a loop of your own: no Loop, no scripts, no Keras.

    python examples/own_loop.py

It prints the total loss and the validation accuracy of each epoch.
"""

import numpy as np
import tensorflow as tf

import tfreg

EPOCHS, BATCH_SIZE = 3, 32

data = tfreg.data.load("mnist5k")  # 4,000 images of MNIST to train on
x, y = np.float32(data.train.x / 255.0), data.train.y
model = tfreg.models.MLP([128, 10], dropout=0.2)
model(x[:1])  # creates the variables
tfreg.rules.apply("l2(1e-4)@kernel:.*;l1(1e-6)@activity:dense_0", model)
optimizer = tfreg.optimizers.adam(1e-3)


@tf.function(jit_compile=True)
def train_step(x, y):
    # The scope seeds dropout: another mask at each step.
    with tfreg.step_scope(optimizer.step), tf.GradientTape() as tape:
        logits = model(x, training=True)
        per_example = tfreg.losses.sparse_softmax_cross_entropy(y, logits)
        loss = tfreg.losses.total_loss(per_example, model)
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)
    return loss


@tf.function
def count_correct(x, y):
    predicted = tf.argmax(model(x), axis=-1, output_type=y.dtype)
    return tf.math.count_nonzero(predicted == y)


def main():
    for epoch in range(EPOCHS):
        # A function of (seed, epoch): a resumed run needs no iterator's state.
        order = tfreg.data.permute(len(x), seed=0, epoch=epoch)
        losses = [train_step(x[i], y[i]) for i in order.reshape(-1, BATCH_SIZE)]
        held_out = data.validation
        num_correct = count_correct(np.float32(held_out.x / 255.0), held_out.y)
        accuracy = float(num_correct) / len(held_out)
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}, accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
