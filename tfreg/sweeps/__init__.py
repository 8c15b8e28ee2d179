"""Sweeps: many runs, their statistics and a report, to choose a scale."""
