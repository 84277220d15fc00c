"""A recipe for a small model, without evaluation."""

SMALL = """\
# @package _global_
# A small model from scratch.
defaults:
  - /model: tiny_general
  - /dataset: jsonl
  - /method: sft
  - override /hardware: cpu
  - _self_
name: small
model:
  architecture: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, vocab_size: 400}
  tokenizer: {vocab_size: 400}
dataset:
  path: words.jsonl
  heldout_fraction: 0
method:
  learning_rate: 3e-3
  max_steps: 80
  per_device_train_batch_size: 8
  logging_steps: 1
  save_steps: 20
"""
