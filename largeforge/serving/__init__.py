"""Serving on this machine: command lines, supervision, shutdown."""
