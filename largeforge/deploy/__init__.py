"""Servers on the hosts of an inventory: what is there, what should be, and how the one becomes the other."""
