"""On-policy distillation as a user of trl writes it."""

from datasets import Dataset
from trl import DistillationConfig, DistillationTrainer


def trainer(model, rows, settings, peft_config):
    teacher = settings.pop("teacher")
    settings.pop("max_length")
    prompts = [{"prompt": row["messages"][:-1]} for row in rows]
    return DistillationTrainer(
        model=model, teacher_model=teacher, args=DistillationConfig(**settings),
        train_dataset=Dataset.from_list(prompts), peft_config=peft_config,
    )  # fmt: skip
