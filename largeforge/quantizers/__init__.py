"""Quantizers, each one module and one YAML in `conf/quantization/`; see `recipe/quantization.py`."""
