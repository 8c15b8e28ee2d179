"""The training step and loop, for models, data and scripts of your own.

These modules don't depend on Config or flags.
"""
