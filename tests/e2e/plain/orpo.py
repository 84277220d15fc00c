"""Odds ratio preference optimisation as a user of trl writes it."""

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer


def trainer(model, rows, settings, peft_config):
    return ORPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model), args=ORPOConfig(**settings),
        train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=peft_config,
    )  # fmt: skip
