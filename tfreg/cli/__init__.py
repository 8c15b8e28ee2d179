"""The commands, for whoever works at a terminal: flags in, one call of the library out.

`tfreg train` is `python -m tfreg train` is `python scripts/train.py`. What is wrong
with a command line is said before TensorFlow is imported.
"""
