"""Adapters: one file each, with a `Config`, `footprint`, `peft_config` and `quantization`."""
