"""Trains with R-drop: two passes with different dropout should give equal outputs.

    python examples/rdrop.py

A step of one's own overrides `compute_loss`. It calls `self.forward` twice, and each
call draws masks of its own (Liang et al. 2021).
"""

import tensorflow as tf

import tfreg

EPOCHS, ALPHA = 3, 1.0


class RDrop(tfreg.Step):
    def compute_loss(self, batch):
        first, second = self.forward(batch.x), self.forward(batch.x)
        self.measure(batch, first)
        losses = [self.objective(batch.y, each)[""] for each in (first, second)]
        p, q = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
        # The mean of both divergences, one value for each example.
        divergence = tf.reduce_sum((tf.exp(p) - tf.exp(q)) * (p - q), axis=-1) / 2
        self.report("divergence", divergence)
        return {"cross_entropy": tf.add_n(losses) / 2, "rdrop": ALPHA * divergence}


def main():
    data = tfreg.data.load("mnist5k")
    l2 = tfreg.l2_regularizer(1e-4)
    model = tfreg.models.MLP([128, 10], dropout=0.3, kernel_regularizer=l2)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = RDrop(model, loss, tfreg.optimizers.adam(1e-3))
    loop = tfreg.Loop(step, data.train, batch_size=32, seed=0)
    for epoch in range(EPOCHS):
        report = loop.train(epoch)
        parts = {name: round(loss, 3) for name, loss in report.data_losses.items()}
        print(f"epoch {epoch}: {parts}, penalty {report.regularization:.3f}")
    report = loop.evaluate(data.validation)
    accuracy, divergence = report.metrics["accuracy"], report.metrics["divergence"]
    print(f"accuracy {accuracy:.3f}, divergence without dropout {divergence}")
    return report


if __name__ == "__main__":
    main()
