"""Shapes against what transformers builds, the published parameter counts, and configs that make no sense."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from largeforge.estimate.decoders import shape
from largeforge.estimate.families import FAMILIES
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.schema import Model

if TYPE_CHECKING:
    from largeforge.estimate.shape import Linear, Shape

LIBRARY = sorted((shipped_root() / "conf" / "model").glob("*.yaml"))

SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 500, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 7,
}  # fmt: skip

VARIANTS: list[dict[str, Any]] = [
    {"model_type": "llama"},
    {"model_type": "llama", "tie_word_embeddings": True, "head_dim": 32},
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    {"model_type": "granite"},
    {"model_type": "smollm3"},
    {"model_type": "mistral"},
    {"model_type": "mistral", "sliding_window": None, "head_dim": 32},
    {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    {"model_type": "qwen2"},
    {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 5, "tie_word_embeddings": True},
    {"model_type": "qwen2_moe", **MOE, "shared_expert_intermediate_size": 80},
    {"model_type": "qwen2_moe", **MOE, "shared_expert_intermediate_size": 80, "decoder_sparse_step": 2},
    {"model_type": "qwen2_moe", **MOE, "shared_expert_intermediate_size": 80, "qkv_bias": False,
     "use_sliding_window": True, "max_window_layers": 5},
    {"model_type": "qwen3"},
    {"model_type": "qwen3", "attention_bias": True, "use_sliding_window": True, "max_window_layers": 2},
    {"model_type": "qwen3_moe", **MOE},
    {"model_type": "qwen3_moe", **MOE, "mlp_only_layers": [0, 3], "head_dim": 32},
    {"model_type": "gemma"},
    {"model_type": "gemma2"},
    {"model_type": "gemma2", "tie_word_embeddings": False, "num_hidden_layers": 5},
    {"model_type": "gemma3_text"},
    {"model_type": "gemma3_text", "sliding_window_pattern": 3},
    {"model_type": "gemma3_text", "layer_types": ["full_attention", "sliding_attention"] * 4},
    {"model_type": "phi3"},
    {"model_type": "phi3", "tie_word_embeddings": True, "sliding_window": 64},
    {"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2},
    {"model_type": "gpt_oss", "num_local_experts": 4, "attention_bias": False, "num_experts_per_tok": 2},
    {"model_type": "olmo2"},
]  # fmt: skip


def built(config: dict[str, Any]) -> Any:
    """Return the model that transformers makes of a config.json, without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


def linear_parameters(model: Any) -> tuple[Counter[str], Counter[str]]:
    """Return the parameters of a model's `nn.Linear` modules and of its bare experts and routers, by name."""
    import torch

    linear: Counter[str] = Counter()
    bare: Counter[str] = Counter()
    for name, module in model.named_modules():
        own = {key: value.numel() for key, value in module.named_parameters(recurse=False)}
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Linear) and last != "lm_head":
            linear[last] += sum(own.values())
        elif last == "experts":
            for key, count in own.items():
                bare[key.removesuffix("_bias")] += count
        elif "Router" in type(module).__name__:
            bare[last] += sum(own.values())
    return linear, bare


def by_name(linears: tuple[Linear, ...], *, is_linear: bool) -> Counter[str]:
    found: Counter[str] = Counter()
    for layer in linears:
        if layer.is_linear == is_linear:
            found[layer.name] += layer.parameters
    return found


def compare(found: Shape, model: Any) -> None:
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    linear, bare = linear_parameters(model)
    assert by_name((*found.linears, *found.vision_linears), is_linear=True) == linear
    assert by_name(found.linears, is_linear=False) == bare
    assert not found.guessed


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: json.dumps(variant)[16:70])
def test_every_layer_is_as_large_as_transformers_makes_it(variant: dict[str, Any]) -> None:
    config = SMALL | variant
    model = built(config)
    found = shape(config)
    compare(found, model)
    head_dims = {module.head_dim for module in model.modules() if hasattr(module, "head_dim")}
    assert head_dims <= {found.head_dim}
    types = getattr(model.config, "layer_types", None)
    if types:
        expected = types.count("sliding_attention")
    else:
        expected = found.layers if getattr(model.config, "sliding_window", None) else 0
    assert found.window_layers == expected
    assert found.window == ((model.config.sliding_window or 0) if expected else found.window)


@pytest.mark.parametrize("use_head", [True, False])
def test_gemma_3_counts_its_encoder_of_images(use_head: bool) -> None:
    text = {**SMALL, "model_type": "gemma3_text"}
    config = {"model_type": "gemma3", "text_config": text, "vision_config": {**VISION, "vision_use_head": use_head}}
    model = built({**config, "mm_tokens_per_image": 16})
    found = shape(config)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.vision_parameters == found.parameters - shape(text).parameters > 0
    assert by_name((*found.linears, *found.vision_linears), is_linear=True) == linear_parameters(model)[0]


def test_every_family_is_compared_with_transformers() -> None:
    assert {variant["model_type"] for variant in VARIANTS} == set(FAMILIES)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_fields_left_out_mean_what_transformers_means(model_type: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type)
    asked = {key: SMALL[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    asked |= {"num_attention_heads": config.num_attention_heads, "vocab_size": 500, "num_local_experts": 4}
    found = shape({**asked, **MOE, "model_type": model_type, "shared_expert_intermediate_size": 8})
    assert found.tied == bool(config.tie_word_embeddings)


def models() -> list[Model]:
    return [Model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in LIBRARY]


PUBLISHED = [model for model in models() if model.published_parameters]


def test_library_says_how_many_parameters_each_published_model_has() -> None:
    assert [model.name for model in models() if not model.published_parameters] == ["tiny_general"]
    assert len({model.ref for model in PUBLISHED}) == len(PUBLISHED) >= 35


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_library_has_the_published_number_of_parameters(model: Model) -> None:
    assert model.architecture is not None
    assert shape(model.architecture.config()).parameters == model.published_parameters


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_library_is_built_by_transformers_with_the_published_number_of_parameters(model: Model) -> None:
    assert model.architecture is not None
    config = model.architecture.config()
    compare(shape(config), built(config))


@pytest.mark.parametrize(("name", "total_size"), [("gpt_oss_20b", 13_761_264_768), ("gpt_oss_120b", 65_248_815_744)])
def test_stored_bytes_are_those_of_the_published_files(name: str, total_size: int) -> None:
    """`total_size` is that of model.safetensors.index.json in the published repositories."""
    model = next(model for model in PUBLISHED if model.name == name)
    assert model.architecture is not None
    assert shape(model.architecture.config()).stored_bytes(model.weights) == total_size


@pytest.mark.parametrize(
    ("name", "active"), [("gpt_oss_20b", 3.61e9), ("gpt_oss_120b", 5.13e9), ("mixtral_8x7b_instruct", 12.9e9)]
)
def test_active_parameters_of_a_mixture_are_those_on_its_card(name: str, active: float) -> None:
    """gpt-oss model card, table 1 (the embedding look-up not counted); Mixtral of Experts (Jiang et al. 2024)."""
    model = next(model for model in PUBLISHED if model.name == name)
    assert model.architecture is not None
    assert shape(model.architecture.config()).active_parameters == pytest.approx(active, rel=0.015)


def test_window_as_wide_as_the_context_is_none() -> None:
    config = SMALL | {"model_type": "mistral", "max_position_embeddings": 4096}
    assert (shape(config).window, shape(config).window_layers) == (0, 0)


def test_cache_of_a_layer_with_a_window_does_not_grow_beyond_it() -> None:
    found = shape(SMALL | {"model_type": "gemma2", "sliding_window": 100, "head_dim": 16})
    per_layer = 2 * 2 * 16 * 2
    assert found.kv_bytes(1000, 2) == per_layer * (4 * 1000 + 4 * 100)
    assert found.kv_bytes(50, 2) == per_layer * 8 * 50 == 50 * found.kv_bytes_per_token(2)


def test_unknown_model_like_llama_is_taken_for_llama_and_says_so() -> None:
    found = shape(SMALL | {"model_type": "llamoid"})
    assert found.parameters == shape(SMALL | {"model_type": "llama"}).parameters
    assert "llamoid" in found.guessed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512}, "'deepseek_v3' is not known.*kv_lora_rank.*known:.*qwen3"),
        ({"model_type": "qwen3_mo", "num_experts": 4}, "Did you mean 'qwen3_moe'"),
        ({"model_type": "bloom", "intermediate_size": ...}, "it has no intermediate_size"),
        ({"model_type": "llama", "num_hidden_layers": ...}, "no num_hidden_layers"),
        ({"model_type": "llama", "hidden_size": -1}, "hidden_size in config.json is -1"),
        ({"model_type": "llama", "hidden_size": "64"}, "hidden_size in config.json is '64'"),
        ({"model_type": "llama", "hidden_size": True}, "hidden_size in config.json is True"),
        ({"model_type": "llama", "hidden_size": float("nan")}, "hidden_size in config.json is nan"),
        ({"model_type": "llama", "vocab_size": 10**30}, "vocab_size"),
        ({"model_type": "llama", "num_hidden_layers": 10**8}, "from 1 to 10000"),
        ({"model_type": "llama", "tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"model_type": "gemma2", "layer_types": "full"}, "layer_types"),
        ({"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 9}, "num_experts_per_tok"),
    ],
)
def test_config_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    config = {key: value for key, value in (SMALL | change).items() if value is not ...}
    with pytest.raises(ValueError, match=message):
        shape(config)


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
_KEYS = [*SMALL, *MOE, "head_dim", "layer_types", "sliding_window", "text_config", "vision_config", "mlp_only_layers"]


@given(st.sampled_from([*FAMILIES, "gemma3", "else"]), st.dictionaries(st.sampled_from(_KEYS), _anything, max_size=4))
def test_any_config_has_a_shape_or_a_clear_error(model_type: str, changes: dict[str, Any]) -> None:
    try:
        found = shape({**SMALL, **changes, "model_type": model_type})
    except ValueError as error:
        assert len(str(error)) < 1000
    else:
        assert found.parameters > 0


def test_shape_of_a_folder_that_transformers_saved(tmp_path: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(**SMALL, model_type="gpt_oss", num_local_experts=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert shape(config) == shape(SMALL | {"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 4,
                                           "max_position_embeddings": 131072})  # fmt: skip
