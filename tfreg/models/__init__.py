"""Any model as one record, and two small reference models."""

from tfreg.models.adapt import adapt
from tfreg.models.reference import CNN, MLP

__all__ = ["CNN", "MLP", "adapt"]
