"""The card of a model: what was recorded, in the Hub's form, and nothing of the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from largeforge.card import LICENSES, Data, Facts, Gate, card
from largeforge.recipe.folders import shipped_root

ADAPTER = Facts(
    title="support-bot", recipe="sft_qwen7b", description="Answers customers", base="hub:Qwen/Qwen2.5-7B-Instruct",
    license="Apache-2.0", method="sft", adapter="lora",
    settings={"method.learning_rate": 2e-5, "method.max_length": 2048, "adapter.lora_r": 16},
    data=(Data("recipe:data/support.jsonl", "ab" * 32), Data("hf://datasets/acme/chats/train.parquet")),
    rows={"train": 1900, "held out": 100}, results={"loss": 0.79123456, "steps": 500.0},
    metrics={"exact_match": 0.92, "base.exact_match": 0.1, "vs_base.exact_match": 0.82},
    gates=(Gate("exact_match", ">= 0.85", 0.92, True),), lock="3f9ac2d1b7e04c55a1", seed=42,
    packages={"torch": "2.13.0", "trl": "1.16.0"}, python="3.11.2", hardware="1 × H100",
    registered="support-bot@champion",
)  # fmt: skip


def front(facts: Facts) -> dict[str, Any]:
    _, matter, _ = card(facts).split("---\n", 2)
    return dict(yaml.safe_load(matter))


def test_an_adapter_says_what_it_goes_onto() -> None:
    assert front(ADAPTER) == {
        "base_model": "Qwen/Qwen2.5-7B-Instruct", "base_model_relation": "adapter", "license": "apache-2.0",
        "datasets": ["acme/chats"], "library_name": "peft", "pipeline_tag": "text-generation",
        "tags": ["largeforge", "trl", "sft", "lora"],
    }  # fmt: skip


def test_the_hub_reads_it() -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(card(ADAPTER)).data
    assert (data.base_model, data.license, data.library_name) == ("Qwen/Qwen2.5-7B-Instruct", "apache-2.0", "peft")


def test_it_tells_data_results_gates_and_how_to_make_it_again() -> None:
    text = card(ADAPTER)
    for line in (
        "A lora adapter, trained from `hub:Qwen/Qwen2.5-7B-Instruct` with `sft` by the recipe `sft_qwen7b` of "
        "LargeForge. Answers customers.",
        f"| `recipe:data/support.jsonl` | `{'ab' * 32}` |",
        "| `hf://datasets/acme/chats/train.parquet` | not known |",
        "Rows: 1900 train, 100 held out.",
        "At the end: loss 0.791235, steps 500.",
        "| `method.learning_rate` | `2e-05` |",
        "| exact_match | 0.1 | 0.92 |",
        "| exact_match | `>= 0.85` | 0.92 | passed |",
        "- It was judged on 100 rows held out of the same data, and on nothing else.",
        "- It was trained on rows of up to 2048 tokens.",
        "python -m largeforge reproduce=registry:support-bot@champion",
        "python -m largeforge reproduce=3f9ac2d1b7e0",
        "- lock: `3f9ac2d1b7e04c55a1`",
        "- packages: torch 2.13.0, trl 1.16.0",
    ):
        assert line in text.splitlines(), line


def test_weights_and_rewards_have_their_own_kind() -> None:
    whole = front(replace(ADAPTER, adapter="none"))
    assert (whole["library_name"], whole["base_model_relation"]) == ("transformers", "finetune")
    assert front(replace(ADAPTER, merged=True))["library_name"] == "transformers"
    assert front(replace(ADAPTER, method="reward"))["pipeline_tag"] == "text-classification"


def test_a_model_of_ones_own_has_no_base() -> None:
    own = replace(ADAPTER, base="tiny:general", license="", adapter="none")
    assert not {"base_model", "license", "base_model_relation"} & set(front(own))
    assert "There is no base model" in card(own)


def test_a_base_that_a_recipe_made_leads_to_the_first_one() -> None:
    chained = replace(ADAPTER, base="job:general", origin="hub:Qwen/Qwen2.5-7B@abc123")
    assert front(chained)["base_model"] == "Qwen/Qwen2.5-7B"
    assert "Base: `job:general`, which goes back to `hub:Qwen/Qwen2.5-7B@abc123`" in card(chained)


def test_the_licence_of_the_base_says_what_follows() -> None:
    llama = replace(ADAPTER, license="Llama 3.1 Community License")
    assert front(llama)["license"] == "llama3.1"
    assert "'Built with Llama'" in card(llama)
    assert "find it out" in card(replace(ADAPTER, license=""))
    own = front(replace(ADAPTER, license="Acme License"))
    assert (own["license"], own["license_name"]) == ("other", "acme-license")


def test_every_licence_of_a_shipped_model_is_known() -> None:
    models = [yaml.safe_load(path.read_text()) for path in (shipped_root() / "conf" / "model").glob("*.yaml")]
    assert {model["license"] for model in models if model.get("license")} <= set(LICENSES)


@pytest.mark.parametrize(
    "facts",
    [
        replace(ADAPTER, base="path:/home/ann/models/base"),
        replace(ADAPTER, data=(Data("/home/ann/secret/rows.jsonl", "ab"),)),
        replace(ADAPTER, settings={"method.extra.path": "/home/ann/x.json"}),
        replace(ADAPTER, data=(Data("s3://ann:hunter2@bucket/rows.jsonl"),)),
    ],
)
def test_nothing_of_the_machine_and_no_password_is_told(facts: Facts) -> None:
    assert "/home/ann" not in card(facts)
    assert "hunter2" not in card(facts)


def test_text_cannot_leave_its_cell_or_the_front_matter() -> None:
    odd = replace(
        ADAPTER, title="a\n---\nlicense: mit", settings={"method.template": "a | b\nc"}, license='x"\nlicense: mit'
    )
    assert front(odd)["license"] == "other"
    assert "| `method.template` | `a \\| b c` |" in card(odd)
    assert card(odd).count("\n---\n") == 1


def test_without_an_evaluation_it_says_so() -> None:
    bare = card(Facts(title="x", recipe="r", method="sft"))
    assert "It was not judged" in bare
    assert "## Results" not in bare
