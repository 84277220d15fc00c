"""The vision encoder that stands beside a decoder of text: SigLIP, as Gemma 3 has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from largeforge.estimate.fields import MOST_LAYERS, Fields
from largeforge.estimate.shape import Linear, Shape


def with_vision(text: Shape, config: Any) -> Shape:
    """Return the shape of Gemma 3 with the encoder of its `vision_config`.

    Layers, biases and defaults are those of transformers' `SiglipVisionModel`, the projector is
    `Gemma3MultiModalProjector`. Raises ValueError for a field that makes no sense.
    """
    defaults = {"image_size": 224, "patch_size": 16, "num_channels": 3, "vision_use_head": True}
    fields = Fields(config if isinstance(config, Mapping) else {}, defaults)
    hidden, width = fields.integer("hidden_size", default=768), fields.integer("intermediate_size", default=3072)
    layers = fields.integer("num_hidden_layers", default=12, most=MOST_LAYERS)
    patch = fields.integer("patch_size")
    positions = (fields.integer("image_size") // patch) ** 2
    head = fields.flag("vision_use_head")
    linears = (
        *(Linear(name, hidden, hidden, layers, bias=True) for name in ("q_proj", "k_proj", "v_proj")),
        Linear("out_proj", hidden, hidden, layers + head, bias=True),
        Linear("fc1", hidden, width, layers + head, bias=True),
        Linear("fc2", width, hidden, layers + head, bias=True),
    )
    pixels = fields.integer("num_channels") * patch**2
    embedding = (pixels + 1) * hidden + positions * hidden
    norms = (2 * layers + 1 + head) * 2 * hidden
    pooling = hidden + 3 * hidden * (hidden + 1) if head else 0
    projector = hidden * text.hidden_size + hidden
    other = embedding + norms + pooling + projector
    return replace(text, model_type="gemma3", vision_linears=linears, vision_other_parameters=other)
