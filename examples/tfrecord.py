"""Trains on TFRecord files of sequences of several lengths, by a tf.data pipeline.

    python examples/tfrecord.py

The files are written to a temporary folder first. A sequence is of class 1 if its sum
is positive. The order of the batches is a function of the seed and the epoch, so that
training can be resumed.
"""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfreg

NUM_FILES, PER_FILE, BATCH_SIZE, EPOCHS = 4, 256, 32, 5


def write(folder):
    """Writes the files, and returns their paths."""
    rng = np.random.default_rng(0)
    paths = [str(pathlib.Path(folder) / f"{i}.tfrecord") for i in range(NUM_FILES)]
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(PER_FILE):
                values = rng.normal(size=rng.integers(3, 12)).astype(np.float32)
                floats = tf.train.FloatList(value=values)
                feature = {"values": tf.train.Feature(float_list=floats)}
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    return paths


def parse(records):
    feature = {"values": tf.io.RaggedFeature(tf.float32)}
    values = tf.io.parse_example(records, feature)["values"]
    is_positive = tf.reduce_sum(values, axis=1) > 0
    return values.to_tensor(shape=[None, 12])[..., None], tf.cast(is_positive, tf.int32)


def make_pipeline(paths):
    def make(seed, epoch):
        order = tfreg.data.permute(len(paths), seed, epoch)
        files = tf.data.Dataset.from_tensor_slices([paths[i] for i in order])
        records = files.interleave(tf.data.TFRecordDataset, cycle_length=len(paths))
        # Each pair of ints has another hash, the same in every process.
        mixed = records.shuffle(512, seed=hash((seed, epoch)) % 2**31)
        # Batches of a constant size are compiled once.
        return mixed.batch(BATCH_SIZE, drop_remainder=True).map(parse)

    return tfreg.data.Pipeline(make, steps=len(paths) * PER_FILE // BATCH_SIZE)


def main():
    keras.utils.set_random_seed(0)  # of Keras's initial values
    with tempfile.TemporaryDirectory() as folder:
        pipeline = make_pipeline(write(folder))
        lstm = keras.layers.LSTM(16, kernel_regularizer=keras.regularizers.L2(1e-4))
        model = keras.Sequential([keras.layers.Masking(), lstm, keras.layers.Dense(2)])
        loss = tfreg.losses.sparse_softmax_cross_entropy
        step = tfreg.Step(model, loss, tfreg.optimizers.adam(1e-2))
        loop = tfreg.Loop(step, pipeline, seed=0)
        for epoch in range(EPOCHS):
            report = loop.train(epoch)
            accuracy = report.metrics["accuracy"]
            print(f"epoch {epoch}: {report.num_steps} steps, accuracy {accuracy:.3f}")
    return report


if __name__ == "__main__":
    main()
