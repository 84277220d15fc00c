"""Group relative policy optimisation as a user of trl writes it, with a reward function of one's own."""

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer


def is_right(completions, answer, **_):
    return [float(turns[0]["content"].strip() == wanted) for turns, wanted in zip(completions, answer, strict=True)]


def is_short(completions, **_):
    return [float(len(turns[0]["content"]) <= 1) for turns in completions]


def trainer(model, rows, settings, peft_config):
    settings.pop("max_length")
    return GRPOTrainer(
        model=model, reward_funcs=[is_right, is_short], args=GRPOConfig(**settings, reward_weights=[1.0, 0.5]),
        train_dataset=Dataset.from_list(rows), peft_config=peft_config,
    )  # fmt: skip
