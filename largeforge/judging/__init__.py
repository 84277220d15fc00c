"""What the figures of an evaluation are worth: metrics row by row, their intervals, and comparisons of two models."""
