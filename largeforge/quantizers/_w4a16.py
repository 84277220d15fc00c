"""Where vLLM serves weights of 4 bits in groups with activations of 16 bits.

From vLLM 0.32: `kernels/linear/mixed_precision` (`CPUWNA16LinearKernel` takes widths that 32 divides; on NVIDIA,
Marlin and others from compute capability 7.5), `compressed_tensors_wNa16.py` and `auto_awq.py` (`get_min_capability`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe.quantization import no_kernel, undivided

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.quantization import Target

_CPU_TILE = 32


def unservable(target: Target, *, group_size: int, pack: int = 1) -> Iterator[str]:
    """Yield why such a model cannot be made or served; `pack` numbers of an output are stored as one."""
    for problem in undivided(target, inputs=group_size, outputs=pack):
        yield f"{problem} (groups of {group_size})" if "inputs" in problem else problem
    if target.device == "cpu" and group_size % _CPU_TILE == 0:
        yield from (found for found in undivided(target, inputs=1, outputs=_CPU_TILE) if "outputs" in found)
    if target.device == "cpu" and not target.avx512 and not target.other_vllm:
        yield "vLLM 0.32 has weights of 4 bits on a CPU only with AVX-512, which this one has not; w8a8 is served"
    yield from no_kernel(target, below=7.5, what="weights of 4 bits")
