"""A Trainer works in your own script: without a Config, flags, or later settings."""

import subprocess
import sys

import numpy as np
import pytest

import tfreg
from tfreg import data, losses, models, optimizers
from tfreg.runs import trainer
from tfreg.training import loop, manifests, recovery, step


class Lines:
    """Records the calls of a Progress."""

    def __init__(self):
        self.epochs = []

    def update(self, epoch, report, speed):
        """Records nothing."""

    def end_epoch(self, epoch, train, validation, speed):
        """Records the epoch and its validation loss."""
        self.epochs.append((epoch, validation.loss))


@pytest.fixture
def split(rng):
    x = rng.normal(size=(40, 3)).astype(np.float32)
    return data.Split(x, (x[:, 0] > 0).astype(np.int32))


def make_trainer(split, directory=None, rate=0.1, **options):
    with tfreg.Store().as_default():
        model = models.MLP([2], kernel_regularizer=tfreg.l2_regularizer(1e-3), seed=0)
        loss = losses.sparse_softmax_cross_entropy
        made = step.Step(model, loss, optimizers.sgd(rate))
        trained = loop.Loop(made, split, batch_size=10)
    return trainer.Trainer(trained, split, directory, **options)


def get_weights(trained):
    return [v.numpy() for v in trained.loop.step.model.variables]


def test_a_trainer_without_a_directory_writes_nothing(split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines, trained = Lines(), make_trainer(split)
    trained.run(3, progress=lines)
    assert [epoch for epoch, _ in lines.epochs] == [0, 1, 2]
    assert lines.epochs[-1][1] < lines.epochs[0][1]
    assert trained.num_steps == 12 and trained.has_ended(3) and not trained.has_ended(4)
    assert not list(tmp_path.iterdir())


def test_a_trainer_resumes_from_its_directory_bit_for_bit(split, tmp_path):
    alone = make_trainer(split)
    alone.run(4, progress=Lines())
    first = make_trainer(split, tmp_path, config={"by": "me"})
    first.run(2, progress=Lines())
    second, lines = make_trainer(split, tmp_path, config={"by": "me"}), Lines()
    second.run(4, progress=lines)
    assert [epoch for epoch, _ in lines.epochs] == [2, 3]
    for ours, theirs in zip(get_weights(second), get_weights(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert second.seconds > first.history.seconds > 0


def test_the_model_has_the_best_weights_where_there_is_a_patience(split):
    trained = make_trainer(split, rate=300.0, patience=2)
    lines = Lines()
    trained.run(50, progress=lines)
    best = min(loss for _, loss in lines.epochs)
    assert trained.num_steps < 200 and lines.epochs[-1][1] > best
    assert trained.loop.evaluate(split).loss == pytest.approx(best, rel=1e-6)


def test_a_loss_that_is_not_finite_names_the_last_checkpoint(split, tmp_path):
    split.x[7, 1] = np.nan
    with pytest.raises(recovery.LossError, match=r"loss/data .*step-0000000000\)"):
        make_trainer(split, tmp_path).run(1, progress=Lines())
    manifests.verify(tmp_path / "checkpoints" / "step-0000000000")


def test_files_and_manifests_need_no_tensorflow():
    code = "import sys, tfreg.training.files, tfreg.training.manifests\n"
    code += "sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
