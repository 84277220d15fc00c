"""Kahneman-Tversky optimisation as a user of trl writes it, who shuffles first: the trainer does not."""

from datasets import Dataset
from trl import KTOConfig, KTOTrainer


def trainer(model, rows, settings, peft_config):
    return KTOTrainer(
        model=model, args=KTOConfig(**settings), train_dataset=Dataset.from_list(rows).shuffle(seed=settings["seed"]),
        peft_config=peft_config,
    )  # fmt: skip
