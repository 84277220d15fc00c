"""Direct preference optimisation as a user of trl writes it."""

from datasets import Dataset
from trl import DPOConfig, DPOTrainer


def trainer(model, rows, settings, peft_config):
    return DPOTrainer(
        model=model, args=DPOConfig(**settings), train_dataset=Dataset.from_list(rows), peft_config=peft_config
    )
