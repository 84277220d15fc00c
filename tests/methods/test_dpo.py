"""DPO on rows that are tokens already is trl's DPO on the conversations themselves, to the last bit."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge.methods import dpo
from largeforge.tokens import loaded, parts, rows
from largeforge.tokens.parts import Wanted
from largeforge.training.arguments import arguments
from tests.tokens.tokenizers import CHATML, SPECIAL, byte_level, wrapped

STEPS = 3


def pairs() -> list[dict[str, Any]]:
    pick = random.Random(3)

    def said(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(pick.choices(["one", "two", "straße", "\n"], k=pick.randint(1, 9)))}]

    return [
        {"prompt": said("user"), "chosen": said("assistant"), "rejected": said("assistant"), "source": f"a:{number}"}
        for number in range(12)
    ]


class Training:
    """What the method is given, with all rows in memory."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path):
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        self.peft_config: Any = None
        self.losses: list[float] = []

    def arguments(self, config: Any) -> dict[str, Any]:
        return {**arguments(config, device="cpu", seed=1, folder=self.folder, evaluates=True), "save_strategy": "no"}

    def tokenized(self, split: str, learn: str = "completion") -> Any:
        from datasets import Dataset

        lines = [json.dumps(row).encode() for row in pairs()]
        part = parts.tokenize(lines, loaded.engine(self.tokenizer), Wanted("preference", "all", 128))
        columns = {}
        for name, ids, sizes in zip(rows.COLUMNS["preference"], part.columns, part.sizes, strict=True):
            left = iter(ids)
            columns[name] = [[next(left) for _ in range(size)] for size in sizes]
        return Dataset.from_dict(columns)

    def fit(self, trainer: Any) -> dict[str, float]:
        trainer.train()
        self.losses = [
            value for entry in trainer.state.log_history for key, value in entry.items() if key in ("loss", "eval_loss")
        ]
        return {}


@pytest.fixture(scope="module")
def start() -> SimpleNamespace:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = wrapped(byte_level(SPECIAL), CHATML)
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return SimpleNamespace(model=Qwen2ForCausalLM(config), tokenizer=tokenizer)


def config_of(**settings: Any) -> dpo.Config:
    given = {"learning_rate": 1e-2, "max_steps": STEPS, "logging_steps": 1, "eval_steps": STEPS, "max_length": 128}
    return dpo.Config(**{**given, "per_device_train_batch_size": 4, **settings})


def plain(config: dpo.Config, start: SimpleNamespace, folder: Path) -> list[float]:
    """Return the losses of trl's trainer on the conversations."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model = copy.deepcopy(start.model)
    training = Training(model, start.tokenizer, folder)
    data = Dataset.from_list([rows.plain(row) for row in pairs()])
    given = DPOConfig(
        **training.arguments(config), max_length=config.max_length, beta=config.beta,
        precompute_ref_log_probs=config.precompute_ref_log_probs,
    )  # fmt: skip
    reference = None if config.precompute_ref_log_probs else copy.deepcopy(model)
    training.fit(
        DPOTrainer(
            model=model, ref_model=reference, args=given, train_dataset=data, eval_dataset=data,
            processing_class=start.tokenizer,
        )
    )  # fmt: skip
    return training.losses


@pytest.mark.parametrize("settings", [{}, {"precompute_ref_log_probs": True, "extra": {"ld_alpha": 0.5}}])
def test_the_losses_are_those_of_trl(start: SimpleNamespace, tmp_path: Path, settings: dict[str, Any]) -> None:
    config = config_of(**settings)
    training = Training(copy.deepcopy(start.model), start.tokenizer, tmp_path / "ours")
    dpo.run(config, training)  # type: ignore[arg-type]
    assert len(training.losses) == STEPS + 1
    assert len(set(training.losses)) > 2
    assert training.losses == plain(config, start, tmp_path / "plain")
