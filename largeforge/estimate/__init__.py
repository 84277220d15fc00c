"""Memory, time and cost of training and serving: plain arithmetic on a model's shape.

Standard library only, no torch, nothing read from disk or network. Bytes are floats; names carry
units. Every formula or constant cites its source.
"""
