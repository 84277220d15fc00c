"""llm-compressor's one-shot quantization, for the quantizers that are recipes of it.

Runs in the environment `llm_compressor` only. One thing of it is changed: its AWQ pins memory for copies to a GPU also
where there is none, which torch refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.quantization import QuantizingJob

ENVIRONMENT = "llm_compressor"
IGNORED = ["lm_head", "re:.*vision.*", "re:.*multi_modal_projector.*", "re:.*mlp\\.gate$", "re:.*router.*"]
"""Layers that stay as they are: the output head, what sees images, and the routers of mixtures."""

_TOKENS_IN_BATCH = 512


def oneshot(modifiers: list[Any], job: QuantizingJob) -> None:
    """Apply modifiers to the model, calibrated with the job's rows where there are any, and write the result."""
    import torch
    from llmcompressor import oneshot as compress
    from llmcompressor.pipelines.cache import IntermediatesCache
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = _leave_unpinned
    job.note("loading the model")
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    given: dict[str, Any] = {}
    if job.rows:
        whole = [torch.tensor(batch) for batch in batches(job.rows)]
        loaded = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in whole]
        given = {"dataset": DataLoader(loaded, batch_size=None)}
    job.note("quantizing")
    compress(model=model, processor=tokenizer, recipe=modifiers, **given)
    job.note("writing the quantized model")
    model.save_pretrained(job.out, save_compressed=True)


def batches(rows: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """Put rows of one length together, so that nothing is padded or cut: padding would be calibrated on."""
    by_length: dict[int, list[list[int]]] = {}
    for row in rows:
        by_length.setdefault(len(row), []).append(list(row))
    found = []
    for length, same in sorted(by_length.items()):
        size = max(1, _TOKENS_IN_BATCH // length)
        found += [same[start : start + size] for start in range(0, len(same), size)]
    return found


def weights_of_4_bits(group_size: int, *, symmetric: bool) -> dict[str, Any]:
    """Return the scheme that quantizes weights to 4 bits in groups, and no activations."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(
        num_bits=4, type="int", strategy="group", group_size=group_size, symmetric=symmetric, dynamic=False
    )
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}


def _leave_unpinned(cache: Any, batch_index: int, input_names: list[str] | None = None) -> None:
    """Stand in for `IntermediatesCache.pin_memory`, which only speeds up copies to an accelerator."""
