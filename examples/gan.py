"""Trains a GAN on points of a circle: two steps that take turns in one tf.function.

    python examples/gan.py

Each step trains one model, reads the other (`frozen`), and counts the penalties of its
own model and of no other.
"""

import numpy as np
import tensorflow as tf

import tfreg

NUM_STEPS, BATCH_SIZE, NOISE = 1_000, 256, 8

generator = tfreg.models.MLP([64, 64, 2], kernel_regularizer=tfreg.l2_regularizer(1e-5))
discriminator = tfreg.models.MLP(
    [64, 64, 1], tf.nn.leaky_relu, kernel_regularizer=tfreg.l2_regularizer(1e-3)
)


def judge(points, label):
    """Returns the losses of the discriminator, one for each point."""
    logits = discriminator(points)
    return tfreg.losses.sigmoid_cross_entropy(tf.fill(tf.shape(logits), label), logits)


class GeneratorStep(tfreg.Step):
    def compute_loss(self, batch):
        return judge(self.forward(batch.x), 1.0)


class DiscriminatorStep(tfreg.Step):
    def compute_loss(self, batch):
        # The generator is constant in this step.
        fake = tf.stop_gradient(generator(batch.x))
        return judge(batch.y, 1.0) + judge(fake, 0.0)


g_optimizer = tfreg.optimizers.adam(5e-4, beta_1=0.5)
d_optimizer = tfreg.optimizers.adam(2e-3, beta_1=0.5)
g_step = GeneratorStep(generator, None, g_optimizer, frozen=[discriminator])
d_step = DiscriminatorStep(discriminator, None, d_optimizer, frozen=[generator])


@tf.function(jit_compile=True)
def train_step(real, noise):
    return g_step(noise, real).total, d_step(noise, real).total


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
