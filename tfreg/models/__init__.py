"""Two small reference models, to try a regularizer or a loop."""

from tfreg.models.reference import CNN, MLP

__all__ = ["CNN", "MLP"]
