"""A topology as objects of Kubernetes, one module for each concern; `tree.py` puts them into files."""
