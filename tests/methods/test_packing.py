"""Rows that share a sequence do not see each other, whatever the attention kernels."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_rows_in_one_line_have_the_logits_that_they_have_alone(attn_implementation: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=128,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation)
    rows = [list(range(3, 20)), list(range(40, 50))]
    whole = rows[0] + rows[1]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([{"input_ids": whole, "labels": whole, "seq_lengths": [len(row) for row in rows]}])
    del batch["labels"]
    with torch.no_grad():
        together = model(**batch, use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows])
    assert torch.allclose(together, alone, atol=1e-6)
