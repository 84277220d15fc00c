"""Generalized knowledge distillation as a user of trl writes it; `logit` is the same without own answers."""

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.gkd import GKDConfig, GKDTrainer


def trainer(model, rows, settings, peft_config):
    teacher = settings.pop("teacher")
    return GKDTrainer(
        model=AutoModelForCausalLM.from_pretrained(model), teacher_model=AutoModelForCausalLM.from_pretrained(teacher),
        args=GKDConfig(**settings), train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model), peft_config=peft_config,
    )  # fmt: skip
