"""Adapters: one file each, with a `Config` and `peft_config(config)`."""
