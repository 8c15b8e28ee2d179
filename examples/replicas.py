"""Trains on two replicas, and compares the loss with that of one device.

    python examples/replicas.py

A CPU split in two stands for two GPUs. With GPUs delete the split, and leave the
devices out of MirroredStrategy().
"""

import numpy as np
import tensorflow as tf

import tfreg

NUM_STEPS, BATCH_SIZE = 100, 32

halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], halves
)

data = tfreg.data.load("mnist5k")
x, y = np.float32(data.train.x / 255.0), data.train.y
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = tfreg.models.MLP([128, 10])
    model(x[:1])  # creates the variables
    tfreg.rules.apply("l2(1e-3)@kernel:.*", model)
    optimizer = tfreg.optimizers.adam(1e-3)


def compute_loss(x, y):
    per_example = tfreg.losses.sparse_softmax_cross_entropy(y, model(x))
    return tfreg.losses.total_loss(per_example, model)


def replica_step(x, y):
    with tf.GradientTape() as tape:
        loss = compute_loss(x, y)  # this replica's part of the total
    variables = model.trainable_variables
    gradients = tfreg.optimizers.sum_over_replicas(tape.gradient(loss, variables))
    gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
    optimizer.apply(gradients, variables, summed=True)
    return loss


@tf.function
def train_step(x, y):
    # The parts add up to the loss of one device that holds the global batch.
    return strategy.reduce("SUM", strategy.run(replica_step, (x, y)), axis=None)


def main():
    examples = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=0)
    batches = strategy.experimental_distribute_dataset(examples.batch(BATCH_SIZE))
    for _, (images, labels) in zip(range(NUM_STEPS), batches, strict=False):
        parts = [strategy.experimental_local_results(v) for v in (images, labels)]
        batch = [tf.concat(part, 0) for part in parts]
        alone = tf.function(compute_loss)(*batch)
        total = train_step(images, labels)
    print(f"two replicas {total:.6f}, one device {alone:.6f}")
    return float(total), float(alone)


if __name__ == "__main__":
    main()
