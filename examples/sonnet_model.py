"""Trains a Sonnet model with BatchNorm and dropout, and its own regularizer.

    python examples/sonnet_model.py

Sonnet calls the argument `is_training`; `Step` finds that out. Rules and regularizers
work on its variables as on those of tfreg's layers.
"""

import sonnet as snt
import tensorflow as tf

import tfreg

EPOCHS = 3


class Net(snt.Module):
    def __init__(self):
        super().__init__(name="net")
        self.hidden = snt.Linear(128, name="hidden")
        self.norm = snt.BatchNorm(create_scale=True, create_offset=True)
        self.dropout = tfreg.layers.Dropout(0.2)
        self.logits = snt.Linear(10, name="logits")

    def __call__(self, x, is_training):
        x = self.hidden(snt.Flatten()(x))
        x = tf.nn.relu(self.norm(x, is_training))
        return self.logits(self.dropout(x, is_training))


def main():
    data = tfreg.data.load("mnist5k")
    model = Net()
    model(tf.zeros([1, 28, 28]), is_training=False)  # creates the variables
    tfreg.rules.apply("l2(1e-4)@kernel:.*;l1(1e-4)@bias:logits", model)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, tfreg.optimizers.adam(1e-3))
    loop = tfreg.Loop(step, data.train, batch_size=32, seed=0)
    for epoch in range(EPOCHS):
        report = loop.train(epoch)
        accuracy = loop.evaluate(data.validation).metrics["accuracy"]
        print(f"epoch {epoch}: total {report.total:.3f}, accuracy {accuracy:.3f}")
    print(", ".join(report.penalties))
    return model, accuracy


if __name__ == "__main__":
    main()
