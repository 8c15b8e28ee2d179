"""Rewrites TF1 scripts for tfreg. It doesn't import TensorFlow, to start at once."""
