"""Rewrites TF1 scripts for tfreg; imports no TensorFlow, so that porting is fast."""
