"""Trains a GAN on points of a circle: two models, each with penalties of its own.

    python examples/gan.py

`total_loss(loss, model)` counts the penalties of that model and of no other, though
both models are in one process and the generator's loss calls the discriminator.
"""

import numpy as np
import tensorflow as tf

import tfreg

NUM_STEPS, BATCH_SIZE, NOISE = 1_000, 256, 8

generator = tfreg.models.MLP([64, 64, 2], kernel_regularizer=tfreg.l2_regularizer(1e-5))
discriminator = tfreg.models.MLP(
    [64, 64, 1], tf.nn.leaky_relu, kernel_regularizer=tfreg.l2_regularizer(1e-3)
)
g_optimizer = tfreg.optimizers.adam(5e-4, beta_1=0.5)
d_optimizer = tfreg.optimizers.adam(2e-3, beta_1=0.5)


def judge(points, label):
    logits = discriminator(points)
    return tfreg.losses.sigmoid_cross_entropy(tf.fill(tf.shape(logits), label), logits)


@tf.function(jit_compile=True)
def train_step(real, noise):
    with tf.GradientTape(persistent=True) as tape:
        fake = generator(noise)
        g_loss = tfreg.losses.total_loss(judge(fake, 1.0), generator)
        d_losses = judge(real, 1.0) + judge(tf.stop_gradient(fake), 0.0)
        d_loss = tfreg.losses.total_loss(d_losses, discriminator)
    weights = generator.trainable_variables
    g_optimizer.apply(tape.gradient(g_loss, weights), weights)
    weights = discriminator.trainable_variables
    d_optimizer.apply(tape.gradient(d_loss, weights), weights)
    return g_loss, d_loss


def main():
    rng = np.random.default_rng(0)
    for step in range(1, NUM_STEPS + 1):
        angles = rng.uniform(0, 2 * np.pi, BATCH_SIZE)
        real = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        noise = rng.normal(size=(BATCH_SIZE, NOISE)).astype(np.float32)
        g_loss, d_loss = train_step(real, noise)
        if step % 250 == 0:
            radii = np.linalg.norm(generator(noise), axis=1)
            radius = f"{radii.mean():.2f} +- {radii.std():.2f}"  # of the circle: 1
            print(f"step {step}: losses {g_loss:.3f}, {d_loss:.3f}, radius {radius}")
    return radii


if __name__ == "__main__":
    main()
