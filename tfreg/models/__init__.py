"""Any model as one record, and three small reference models."""

from tfreg.models.adapt import adapt
from tfreg.models.reference import CNN, MLP, ResNet20

__all__ = ["CNN", "MLP", "ResNet20", "adapt"]
