"""Trains Keras's MobileNetV2 on a folder of pictures, with L2 on its kernels.

    python examples/mobilenet.py --folder=DIR  # DIR/CLASS/NAME.png, or .jpg

The pictures are read when they are needed, flipped and cropped on the device, and the
model is Keras's own. With `weights="imagenet"` in place of None it is fine-tuned.
"""

import keras
from absl import app, flags

import tfreg

FOLDER = flags.DEFINE_string("folder", None, "folder of the classes", required=True)
EPOCHS = flags.DEFINE_integer("epochs", 2, "number of epochs", lower_bound=1)
SIZE = 32


def train(folder, epochs):
    """Returns the model, and the report on the pictures it was trained on."""
    keras.utils.set_random_seed(0)  # of Keras's initial values
    images = tfreg.data.images(folder, size=(SIZE, SIZE))
    source = tfreg.data.Indexed(images)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Rescaling(2.0, offset=-1.0),  # from [0, 1] to [-1, 1]
            keras.applications.MobileNetV2(
                (SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None
            ),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(len(images.classes), name="classes"),
        ]
    )
    # Every convolution and the last layer; not the scales of BatchNorm.
    tfreg.rules.apply("l2(1e-4)@kernel", model)
    step = tfreg.Step(
        model,
        tfreg.losses.sparse_softmax_cross_entropy,
        tfreg.optimizers.adam(1e-3),
        clip_norm=5.0,
    )
    augment = [tfreg.data.augment.flip(), tfreg.data.augment.crop(4)]
    loop = tfreg.Loop(step, source, batch_size=32, seed=0, augment=augment)
    print(f"{len(source)} pictures; {loop.mode.name}: {loop.mode.reasons[:1]}")
    for epoch in range(epochs):
        report = loop.train(epoch)
        print(f"epoch {epoch}: {report.loss:.3f} + {report.regularization:.3f}")
    return model, loop.evaluate(source)


def main(argv):
    del argv
    _, report = train(FOLDER.value, EPOCHS.value)
    print(f"accuracy {report.metrics['accuracy']:.3f}")


if __name__ == "__main__":
    app.run(main)
