"""The training step and the loop, for people with models, data or scripts of their own.

Nothing here knows a Config or a flag.
"""
