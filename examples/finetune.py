"""Fine-tunes MobileNetV2 on the other half of the classes of a folder of pictures.

    python examples/finetune.py --folder=DIR --directory=runs/finetune

DIR/CLASS/NAME.jpg. The model learns the first half of the classes, gets a new head, and
learns the second half: from the head down, with rates that fall from layer to layer,
near the weights that it had, averaged, and stopped early. A run that was killed
resumes.
"""

import pathlib

import keras
import numpy as np
from absl import app, flags

import tfreg
from tfreg import optimizers, schedules

FOLDER = flags.DEFINE_string("folder", None, "folder of the classes", required=True)
DIRECTORY = flags.DEFINE_string("directory", "runs/finetune", "of the two runs")
EPOCHS = flags.DEFINE_integer("epochs", 6, "number of epochs", lower_bound=1)
SIZE, BATCH = 32, 32

# From the head down: a pattern of a group, and of its layers in rules.
GROUPS = ("head", "Conv_1.*|block_1[0-6].*", ".*")


def load(folder, first_half):
    """Returns training and validation data of one half of the classes, in memory."""
    images = tfreg.data.load_images(folder, size=(SIZE, SIZE))
    half = (int(images.y.max()) + 1) // 2
    chosen = (images.y < half) == first_half
    x, y = images.x[chosen], images.y[chosen] - (0 if first_half else half)
    order = tfreg.data.permute(len(x), seed=0, epoch=0)
    cut = len(x) * 4 // 5
    return tuple(
        tfreg.data.Split(x[rows], y[rows], pixels=True)
        for rows in (order[:cut], order[cut:])
    )


def make_model(num_classes):
    """Returns the model with a head of its own."""
    keras.utils.set_random_seed(0)
    trunk = keras.applications.MobileNetV2(
        (SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None, name="trunk"
    )
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Rescaling(2.0, offset=-1.0),  # from [0, 1] to [-1, 1]
            trunk,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(num_classes, name="head"),
        ]
    )


def train(model, data, optimizer, epochs, directory, **options):
    """Trains with augmentation, or resumes; returns the content of result.json."""
    train_data, validation = data
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, optimizer, after=[optimizers.ema(0.9)])
    loop = tfreg.Loop(
        step, train_data, BATCH, seed=0, augment=tfreg.data.augment.flip()
    )
    trainer = tfreg.Trainer(
        loop,
        validation,
        directory,
        patience=3,
        monitor="validation/accuracy",
        **options,
    )
    return trainer.run(epochs)


def pretrain(data, directory, epochs):
    """Trains all layers on the first half of the classes."""
    model = make_model(int(data[0].y.max()) + 1)
    adam = optimizers.adam(1e-3)
    return train(model, data, adam, epochs, directory / "pretrained")


def finetune(data, directory, epochs, **options):
    """Trains a new head, then the layers below, near the weights of the first run."""
    model = make_model(int(data[0].y.max()) + 1)
    report = tfreg.load_weights(model, directory / "pretrained", pattern="(?!head).*")
    print(str(report).splitlines()[0])
    tfreg.rules.apply("l2_sp(1e-3)@kernel:!head;decay(1e-2)@kernel:head", model)
    steps = -(-len(data[0]) // BATCH) * epochs

    def make(rate):
        warmup = min(10, steps - 1)
        return optimizers.adam(schedules.cosine(rate, steps, warmup_steps=warmup))

    groups = optimizers.layerwise(GROUPS, make, 1e-3, decay=0.4, epochs=1)
    optimizer = optimizers.groups(groups)
    config = {"rate": 1e-3, "decay": 0.4, "classes": int(np.max(data[0].y)) + 1}
    folder = directory / "tuned"
    return train(model, data, optimizer, epochs, folder, config=config, **options)


def main(argv):
    del argv
    folder, directory = FOLDER.value, pathlib.Path(DIRECTORY.value)
    for name, run, first_half in (
        ("pretrained", pretrain, True),
        ("fine-tuned", finetune, False),
    ):
        result = run(load(folder, first_half), directory, EPOCHS.value)
        print(f"{name}: accuracy {result['validation']['accuracy']:.3f}")


if __name__ == "__main__":
    app.run(main)
