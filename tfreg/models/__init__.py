"""Models: two small reference ones, for whoever tries a regularizer or a loop."""

from tfreg.models.reference import CNN, MLP

__all__ = ["CNN", "MLP"]
