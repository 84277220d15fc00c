"""Supervised fine-tuning as a user of trl writes it."""

from datasets import Dataset
from trl import SFTConfig, SFTTrainer


def trainer(model, rows, settings, peft_config):
    pairs = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
    return SFTTrainer(
        model=model, args=SFTConfig(**settings), train_dataset=Dataset.from_list(pairs), peft_config=peft_config
    )
