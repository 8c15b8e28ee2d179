"""Draws the README's picture: what a penalty does to a small training set.

python benchmarks/curves.py  # writes benchmarks/curves.png
"""

import pathlib

import matplotlib
import matplotlib.pyplot as plt

import tfreg
from tfreg.training import metrics

EPOCHS = 40
# Colours of Okabe and Ito, which everybody can tell apart.
SETTINGS = {
    "no penalty": (None, "#000000", "-"),
    "l2_regularizer(1e-3)": (tfreg.l2_regularizer(1e-3), "#0072B2", "--"),
    "l1_regularizer(1e-4)": (tfreg.l1_regularizer(1e-4), "#D55E00", "-."),
}


def train(regularizer: tfreg.regularizers.Regularizer | None) -> list[metrics.Report]:
    """Returns the validation's report after each epoch."""
    with tfreg.Store().as_default():
        data = tfreg.data.load("mnist5k")
        model = tfreg.models.MLP([128, 10], kernel_regularizer=regularizer)
        loss = tfreg.losses.sparse_softmax_cross_entropy
        step = tfreg.Step(model, loss, tfreg.optimizers.adam(1e-3))
        loop = tfreg.Loop(step, data.train, batch_size=32, seed=0)
        reports = []
        for epoch in range(EPOCHS):
            loop.train(epoch)
            reports.append(loop.evaluate(data.validation))
        return reports


def main() -> None:
    """Trains every setting and writes the picture beside this file."""
    matplotlib.use("Agg")
    figure, axes = plt.subplots(figsize=(7, 3.2), dpi=150, layout="constrained")
    for label, (regularizer, colour, style) in SETTINGS.items():
        losses = [report.loss for report in train(regularizer)]
        axes.plot(range(1, EPOCHS + 1), losses, style, color=colour, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross entropy, 500 validation images")
    axes.set_title("5,000 MNIST images, 784-128-10, Adam, one seed", fontsize=10)
    axes.set_ylim(0.15, 0.5)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(pathlib.Path(__file__).with_name("curves.png"))


if __name__ == "__main__":
    main()
