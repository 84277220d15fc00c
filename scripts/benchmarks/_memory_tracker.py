"""Count the bytes of live tensor storages while a program runs, as the CUDA caching allocator would.

Works on fake tensors, so a model of any size is followed with no memory spent. Not seen: what kernels
allocate inside themselves, and how blocks lie in segments.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512
"""Bytes that the caching allocator rounds every allocation up to (PyTorch `c10/core/AllocatorConfig.h`)."""


class LiveBytes(TorchDispatchMode):
    """Follows every storage that an operator returns, from its first sight until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[int, str] = {}
        self.live: Counter[str] = Counter()
        self.peaks: dict[str, tuple[int, dict[str, int]]] = {}
        self.phase = "loading"
        self._followed: dict[int, tuple[Any, int]] = {}

    def begin(self, phase: str) -> None:
        """Count the peak of what follows under this name."""
        self.phase = phase
        self._note_peak()

    def mark(self, tensors: Any, kind: str) -> None:
        """Say what these tensors are: weights, gradients, optimizer, ..."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor)
                key = id(tensor.untyped_storage())
                size, old = self._followed[key][1], self.kinds[key]
                self.live[old] -= size
                self.live[kind] += size
                self.kinds[key] = kind

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = _emulated(func, args, kwargs or {})
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor)
        self._note_peak()
        return out

    def _follow(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._followed:
            return
        size = math.ceil(storage.nbytes() / BLOCK) * BLOCK
        self._followed[key] = (weakref.ref(storage, lambda _, key=key: self._forget(key)), size)
        self.kinds[key] = "other"
        self.live["other"] += size

    def _forget(self, key: int) -> None:
        _, size = self._followed.pop(key)
        self.live[self.kinds.pop(key)] -= size

    def _note_peak(self) -> None:
        total = sum(self.live.values())
        if total > self.peaks.get(self.phase, (-1, {}))[0]:
            self.peaks[self.phase] = (total, dict(self.live))


def _emulated(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator, with a stand-in for those whose answer depends on the values of a fake tensor."""
    aten = torch.ops.aten
    if func is aten._local_scalar_dense.default:
        return {torch.bool: True, torch.long: 1, torch.int: 1}.get(args[0].dtype, 1.0)
    if func is aten.add.Tensor and _accumulates(args):
        return args[0].add_(args[1])
    if func is aten.nonzero.default:
        return args[0].new_empty((2, args[0].dim()), dtype=torch.long)
    if func is aten.repeat_interleave.Tensor:
        return args[0].new_empty(args[0].numel(), dtype=torch.long)
    if func is aten.index.Tensor and _by_mask(args[1]):
        source, mask = args[0], args[1][0]
        rows = source.reshape(mask.numel(), *source.shape[mask.dim() :]) if source.is_contiguous() else None
        if rows is None:
            return source.new_empty((mask.numel(), *source.shape[mask.dim() :]))
        return torch.empty_like(rows)
    if func in (aten._index_put_impl_.default, aten.index_put_.default) and _by_mask(args[1]):
        return args[0]
    if func in (aten.index_put.default, aten._unsafe_index_put.default) and _by_mask(args[1]):
        return torch.empty_like(args[0])
    return func(*args, **kwargs)


def _accumulates(args: Any) -> bool:
    """Whether autograd adds a second gradient to a first one, which it does in place unless tensors are fake.

    PyTorch `torch/csrc/autograd/input_buffer.cpp`, `can_accumulate_inplace`.
    """
    inside = torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
    first, second = args[:2]
    return inside and isinstance(second, torch.Tensor) and (first.shape, first.dtype) == (second.shape, second.dtype)


def _by_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
