"""The model that a job starts from, or that an expert serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, WithJsonSchema, model_serializer

from largeforge.recipe import model_ref
from largeforge.recipe.base import Strict


def _valid_ref(text: str) -> str:
    model_ref.parse(text)
    return text


def _valid_or_open(text: str) -> str:
    return _valid_ref(text) if text else text


@dataclass(frozen=True)
class Refers:
    """Marks a field that holds a model reference, so that a plan finds it wherever it stands."""

    to: Literal["causal", "reward", "any"] = "causal"
    """What the model must be: one that generates text, one that method `reward` makes, or either."""
    same_vocabulary: bool = False
    """Whether its tokens must be those of the model that is trained."""
    may_be_missing: bool = False
    """Whether a registered model that is not there (yet) is simply left out."""


_PATTERN = f"^({'|'.join(model_ref.SCHEMES)}):."
_OPEN = WithJsonSchema({"type": "string", "pattern": f"^$|{_PATTERN}"})

Reference = Annotated[
    str, AfterValidator(_valid_ref), Refers(), WithJsonSchema({"type": "string", "pattern": _PATTERN})
]
FurtherModel = Annotated[str, AfterValidator(_valid_or_open), Refers(), _OPEN]
"""A reference in the settings of a method, a reward or an evaluator; it must be given, and "" is only its default."""
FurtherRewardModel = Annotated[str, AfterValidator(_valid_or_open), Refers("reward"), _OPEN]
Teacher = Annotated[str, AfterValidator(_valid_or_open), Refers(same_vocabulary=True), _OPEN]


class VisionArchitecture(Strict):
    """Fields of the `vision_config` of a model that also sees images: a SigLIP encoder."""

    model_type: str = "siglip_vision_model"
    """Architecture family of the encoder."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream."""
    intermediate_size: int = Field(gt=0)
    """Width of the MLP."""
    num_hidden_layers: int = Field(gt=0)
    """Number of encoder layers."""
    num_attention_heads: int = Field(gt=0)
    """Number of heads."""
    image_size: int = Field(gt=0)
    """Height and width of an image in pixels."""
    patch_size: int = Field(gt=0)
    """Height and width of a patch in pixels."""
    vision_use_head: bool = False
    """Whether the encoder has a pooling head."""


class Architecture(Strict):
    """Fields of a model's `config.json`, under the names that transformers gives them."""

    model_type: str
    """Architecture family, for example `qwen2` or `llama`."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream."""
    intermediate_size: int = Field(gt=0)
    """Width of the MLP."""
    num_hidden_layers: int = Field(gt=0)
    """Number of decoder layers."""
    num_attention_heads: int = Field(gt=0)
    """Number of query heads."""
    num_key_value_heads: int = Field(gt=0)
    """Number of key and value heads; fewer than the query heads means grouped-query attention."""
    head_dim: int = 0
    """Width of one head; 0 means hidden_size / num_attention_heads."""
    vocab_size: int = Field(default=0, ge=0)
    """Rows of the embedding; 0 means the size of the tokenizer."""
    max_position_embeddings: int = Field(default=4096, gt=0)
    """Longest context in tokens."""
    tie_word_embeddings: bool = False
    """Whether the output head is the embedding."""
    rope_theta: float = 10000.0
    """Base of the rotary position embedding."""
    rms_norm_eps: float = 1e-6
    """Epsilon of RMSNorm."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of random initial weights."""
    num_experts: int = Field(default=0, ge=0)
    """Number of experts per layer of a mixture of experts; 0 for a dense model."""
    num_experts_per_tok: int = Field(default=0, ge=0)
    """Experts that each token passes through."""
    num_local_experts: int | None = Field(default=None, gt=0)
    """The same as `num_experts`, as Mixtral and GPT-OSS write it."""
    moe_intermediate_size: int | None = Field(default=None, gt=0)
    """Width of one expert, where it is not `intermediate_size`."""
    shared_expert_intermediate_size: int | None = Field(default=None, gt=0)
    """Width of the expert that every token passes through (qwen2_moe)."""
    attention_bias: bool | None = None
    """Whether the attention's projections have biases, where the family leaves it open."""
    mlp_bias: bool | None = None
    """Whether the MLP's projections have biases, where the family leaves it open."""
    sliding_window: int | None = Field(default=None, ge=0)
    """Tokens that a layer with a sliding window sees; 0 for no window, left out for what the family has."""
    use_sliding_window: bool | None = None
    """Whether the window is used (Qwen)."""
    max_window_layers: int | None = Field(default=None, ge=0)
    """Layers below this one have no window (Qwen)."""
    sliding_window_pattern: int | None = Field(default=None, gt=0)
    """Every such layer has no window (Gemma 3)."""
    attn_logit_softcapping: float | None = Field(default=None, gt=0)
    """Bound of the attention scores (Gemma 2)."""
    final_logit_softcapping: float | None = Field(default=None, gt=0)
    """Bound of the logits (Gemma 2)."""
    vision_config: VisionArchitecture | None = None
    """The encoder of images beside the decoder (Gemma 3 from 4B on)."""

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    def config(self, *, vocab_size: int = 0) -> dict[str, Any]:
        """Return the fields as a `config.json` has them; `vocab_size` stands in where there is none."""
        fields = self.model_dump(exclude={"vision_config"})
        fields["vocab_size"] = self.vocab_size or vocab_size
        for name in ("head_dim", "num_experts", "num_experts_per_tok", "vocab_size"):
            if not fields[name]:
                del fields[name]
        if self.sliding_window == 0:
            fields["sliding_window"] = None
        if self.vision_config is None:
            return fields
        text = {**fields, "model_type": f"{self.model_type}_text"}
        return {"model_type": self.model_type, "text_config": text, "vision_config": self.vision_config.model_dump()}


class TokenizerTraining(Strict):
    """Train a byte-level BPE tokenizer on the job's own data (only for `tiny:` models)."""

    vocab_size: int = Field(default=1200, ge=300)
    """Number of tokens, the special ones included."""
    individual_digits: bool = True
    """Whether each digit is a token of its own."""


class Model(Strict):
    """The model that a job starts from, or that an expert serves."""

    name: str = ""
    """Name of the choice under `conf/model/`."""
    ref: Reference
    """Where the weights are: hub:, path:, run:, registry:, tiny: or job:."""
    architecture: Architecture | None = None
    """Fields of config.json; needed for `tiny:`, otherwise used to plan without a download."""
    tokenizer: TokenizerTraining | None = None
    """How to make a tokenizer; only for `tiny:` models."""
    chat_template: str = ""
    """Jinja file with the chat template (`recipe:` for one beside the recipe), or its text; empty: the model's own."""
    license: str = ""
    """Licence of the weights."""
    weights: Literal["", "fp32", "bf16", "fp16", "fp8", "mxfp4"] = ""
    """Format that the weights are stored in; empty means as the model's files say, else bf16."""
    published_parameters: int = Field(default=0, ge=0)
    """Number of parameters that the model's makers state, to check `architecture` against; 0 for none."""
