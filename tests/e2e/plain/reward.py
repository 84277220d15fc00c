"""Reward modelling as a user of trl writes it, who loads the model with a new head."""

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, set_seed
from trl import RewardConfig, RewardTrainer


def trainer(model, rows, settings, peft_config):
    set_seed(settings["seed"])
    if peft_config is not None:
        peft_config.task_type = "SEQ_CLS"
    return RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(model, num_labels=1), args=RewardConfig(**settings),
        train_dataset=Dataset.from_list(rows), peft_config=peft_config,
    )  # fmt: skip
