"""What the stages of a plan will need: memory, time and cost, and what to change where it does not fit.

The arithmetic is in `estimate`; here it is fed from a recipe and a machine. Imports nothing heavy.
"""
