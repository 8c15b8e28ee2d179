"""Sweeps: many runs, their statistics and a report, for whoever chooses a scale."""
