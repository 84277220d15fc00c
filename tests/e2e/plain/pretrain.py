"""Continued pretraining as a user of trl writes it."""

from datasets import Dataset
from trl import SFTConfig, SFTTrainer


def trainer(model, rows, settings, peft_config):
    arguments = SFTConfig(**settings, packing=True, packing_strategy="bfd_split")
    return SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), peft_config=peft_config)
