"""The commands: each reads flags, and makes one call of the library.

`tfreg train`, `python -m tfreg train` and `python scripts/train.py` are the same. The
command line is checked before TensorFlow is imported.
"""
