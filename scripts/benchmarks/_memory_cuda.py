"""Stand-ins that give fake tensors on a CPU the memory of the CUDA path.

Three things differ between the devices: the attention kernel, trl's loss kernel, and what follows from the
values of a tensor (which a fake one does not have). Everything else is the program that a GPU runs.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Attention(torch.autograd.Function):
    """What the fused CUDA kernels keep and allocate (PyTorch `aten/src/ATen/native/transformers/cuda`).

    Forward: the output, laid out as batch, tokens, heads, and a log-sum-exp in fp32 per head and token. Backward of
    flash attention: gradients of queries, keys and values, those of keys and values first for every query head
    where heads share them, and two fp32 accumulators.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bias: Any) -> Any:
        batch, heads, tokens, _ = query.shape
        out = query.new_empty((batch, tokens, heads, value.shape[-1])).transpose(1, 2)
        ctx.save_for_backward(
            query, key, value, bias, out, query.new_empty((batch, heads, tokens), dtype=torch.float32)
        )
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        query, key, value, _, _, lse = ctx.saved_tensors
        batch, heads, _, width = query.shape
        grads = [
            t.new_empty((t.shape[0], t.shape[2], t.shape[1], t.shape[3])).transpose(1, 2) for t in (query, key, value)
        ]
        scratch = [torch.empty_like(lse), query.new_empty(query.shape, dtype=torch.float32)]
        if key.shape[1] != heads:
            scratch += [query.new_empty((batch, key.shape[2], heads, width)) for _ in "kv"]
        del scratch
        return (*grads, None)


def _scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: Any = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (t.to(torch.get_autocast_dtype("cpu")) for t in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # `convert_boolean_attn_mask` in aten/src/ATen/native/transformers/attention.cpp
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    return _Attention.apply(query, key, value, attn_mask)


class _Kernel:
    """A Triton kernel works in place and allocates nothing."""

    def __getitem__(self, grid: Any) -> Any:
        return lambda *_, **__: None


def _to(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Convert by new parameters: `Module.to` cannot swap fake ones."""
    _, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and dtype is not None and weight.dtype != dtype:
                part._parameters[name] = torch.nn.Parameter(weight.data.to(dtype), weight.requires_grad)
    return module


@contextlib.contextmanager
def emulated(rows: str) -> Iterator[None]:
    """Take the CUDA branches of torch's attention and of trl's fused head, with rows `equal`, `padded` or `packed`."""
    from transformers import masking_utils
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    with contextlib.ExitStack() as stack:
        for module in (chunked_logprob, utils):
            stack.enter_context(patch.object(module, "_use_triton", lambda _: True))
        stack.enter_context(patch.object(chunked_logprob, "_forward_kernel", _Kernel()))
        stack.enter_context(patch.object(chunked_logprob, "_backward_kernel", _Kernel()))
        stack.enter_context(patch.object(chunked_logprob, "_addmm_fp32", lambda *_: None))
        stack.enter_context(
            patch.object(chunked_logprob, "triton", SimpleNamespace(cdiv=lambda a, b: -(-a // b)), create=True)
        )
        stack.enter_context(
            patch.object(torch.nn.functional, "scaled_dot_product_attention", _scaled_dot_product_attention)
        )
        stack.enter_context(patch.object(torch.nn.Module, "to", _to))
        stack.enter_context(patch.object(masking_utils, "is_tracing", lambda *_: False))
        stack.enter_context(patch.object(masking_utils, "fast_all", lambda *_: rows == "equal"))
        found = (lambda positions: torch.zeros_like(positions)) if rows == "packed" else lambda _: None
        stack.enter_context(patch.object(masking_utils, "find_packed_sequence_indices", found))
        yield
