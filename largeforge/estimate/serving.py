"""Memory of serving: what one vLLM server holds on each GPU, and how many sequences its KV cache has room for.

    server = Server(shape, max_model_len=8192, tensor_parallel_size=2)
    found = serving_memory(server, usable_bytes=machine.usable_bytes)
    found.problem             why vLLM would refuse to start, "" when it would start
    found.sequences(2048)     sequences of 2048 tokens that fit side by side
    found.memory.parts        bytes per GPU: weights, adapter, activations, logits, kv_cache, overhead

vLLM takes `gpu_memory_utilization` of a GPU, subtracts what a trial run of the largest batch needed,
and makes the rest KV cache (vllm/v1/worker/gpu_worker.py, `determine_available_memory`). References are
to the sources of vLLM 0.32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from largeforge.estimate.kv_cache import Cache, cache_of
from largeforge.estimate.memory import GIB, Memory
from largeforge.estimate.stored import BASES, linear_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.estimate.shape import Linear, Shape

CONTEXT_BYTES = 0.35 * GIB
"""CUDA context and kernels, `non_torch_memory` of vLLM's profile (github.com/vllm-project/vllm/issues/10517)."""
COMMUNICATION_BYTES = 0.6 * GIB
"""Buffers of NCCL and of the custom all-reduce on each GPU, once there are several; an allowance."""
GRAPH_BYTES_PER_LAYER = 0.3 * 2**20
"""One captured CUDA graph, per layer: 1.62 GiB for 51 + 35 graphs of a model of 64 layers
(github.com/vllm-project/vllm/pull/39559, `Estimated CUDA graph memory`)."""
BYTES_PER_LOGIT = 14.0
"""While tokens are sampled: logits in bf16, their copy in fp32, probabilities, and one buffer of their size."""
CPU_PROCESS_BYTES = 2.3 * GIB
"""Interpreter, torch and vLLM of a server on a CPU; 3.3 GB with the three processes of vLLM's own layout."""
MIN_BATCHED_TOKENS, LARGE_GPU_BATCHED_TOKENS, HUGE_GPU_BATCHED_TOKENS = 2048, 8192, 16384
"""`max_num_batched_tokens` of the API server: below 70 GiB of GPU memory (and for any A100), above, and from
160 GiB (vllm/engine/arg_utils.py, `get_batch_defaults`)."""
BATCHES_IN_FLIGHT = 2
"""Steps whose tokens are not settled yet: the next is scheduled while one runs (vllm/config/vllm.py,
`max_concurrent_batches`; a CPU does one after the other)."""
ROW_PARALLEL = ("o_proj", "down_proj", "out_proj", "dense", "fc2")
"""Layers that are split by input under tensor parallelism; all others by output."""


@dataclass(frozen=True)
class Server:
    """One vLLM server: a model and room for the adapters that it carries; names are vLLM's."""

    shape: Shape
    weights: str = "bf16"
    """How the weights are stored: a key of `stored.BITS` or `stored.BASES`."""
    kv_cache_dtype: str = "auto"
    """`auto` is the precision that is computed in; `fp8` halves it."""
    max_model_len: int = 0
    """Longest sequence; 0 means the model's own limit."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 0
    """Tokens of one step; 0 means vLLM's default for the GPU."""
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_loras: int = 0
    """Adapters that one batch can mix; memory is reserved for that many."""
    max_lora_rank: int = 0
    enforce_eager: bool = False
    """Whether no CUDA graphs are captured."""
    device: Literal["cuda", "cpu"] = "cuda"
    cpu_kvcache_bytes: float = GIB
    """Size of the KV cache on a CPU."""

    @property
    def length(self) -> int:
        """Longest sequence in tokens."""
        return self.max_model_len or self.shape.max_positions or 4096

    @property
    def value_bytes(self) -> float:
        """Bytes of a number that is computed with: the weights' own precision, bf16 where they are quantized."""
        return BASES.get(self.weights, 2.0)

    def batched_tokens(self, usable_bytes: float, gpu: str = "") -> int:
        """Return how many tokens one step processes at most."""
        if self.max_num_batched_tokens:
            return self.max_num_batched_tokens
        default = MIN_BATCHED_TOKENS
        if self.device == "cuda" and usable_bytes >= 160 * GIB:
            default = HUGE_GPU_BATCHED_TOKENS
        elif self.device == "cuda" and usable_bytes >= 70 * GIB and "a100" not in gpu.lower():
            default = LARGE_GPU_BATCHED_TOKENS
        return min(default, self.max_num_seqs * self.length)


@dataclass(frozen=True)
class ServingMemory:
    """What a server holds on each GPU, and what its KV cache has room for."""

    memory: Memory
    """At the peak, the KV cache included; without one when nothing is left for it."""
    budget_bytes: float
    """What vLLM lets itself use of a GPU."""
    cache: Cache
    num_blocks: int
    """KV blocks; 0 when nothing is left for them."""
    max_model_len: int
    problem: str
    """Why vLLM would refuse to start; empty when it would start."""
    max_positions: int = 0
    """Longest context of the model in tokens; 0 where it is not known."""

    @property
    def kv_tokens(self) -> int:
        """Tokens of KV cache in sequences of full length, as vLLM's log gives them."""
        return int(self.num_blocks / self.cache.blocks(self.max_model_len) * self.max_model_len)

    def sequences(self, length: int) -> int:
        """Return how many sequences of `length` tokens fit side by side."""
        return self.num_blocks // self.cache.blocks(length)

    @property
    def longest(self) -> int:
        """Longest sequence that fits alone, in tokens, whatever the model can read."""
        low, high = 0, self.num_blocks * self.cache.block_size
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.sequences(middle) else (low, middle - 1)
        return low


def serving_memory(server: Server, *, usable_bytes: float, gpu: str = "", num_gpus: int = 0) -> ServingMemory:
    """Return what a server holds on each of its GPUs, or in the machine's memory on a CPU.

    `usable_bytes` is what one GPU (or the machine) can give, `gpu` its name, `num_gpus` how many there are, 0
    when that does not matter. Raises ValueError for a storage format that is not known.
    """
    tokens = server.batched_tokens(usable_bytes, gpu)
    fixed = {
        "weights": weights_bytes(server),
        "adapter": adapter_bytes(server),
        **_transient_bytes(server, tokens),
        "overhead": _overhead_bytes(server),
    }
    in_flight = tokens * (BATCHES_IN_FLIGHT if server.device == "cuda" else 1)
    cache = cache_of(server.shape, _kv_value_bytes(server), tp=server.tensor_parallel_size, step_tokens=in_flight)
    if server.device == "cpu":
        budget = usable_bytes
        for_cache = server.cpu_kvcache_bytes
    else:
        budget = usable_bytes * server.gpu_memory_utilization
        for_cache = max(0.0, budget - sum(fixed.values()))
    num_blocks = int(for_cache // cache.block_bytes)
    memory = Memory({"serving": {**fixed, "kv_cache": num_blocks * cache.block_bytes}})
    found = ServingMemory(memory, budget, cache, num_blocks, server.length, "", server.shape.max_positions)
    return replace(found, problem=_problem(server, found, num_gpus, usable_bytes))


def weights_bytes(server: Server) -> float:
    """Return the bytes of weights on each GPU under tensor parallelism.

    Embedding, head and all linear layers are split; keys and values only down to one head; norms, routers
    and a vision encoder are on every GPU (vllm/model_executor/layers/linear.py, `QKVParallelLinear`).
    """
    shape, tp = server.shape, server.tensor_parallel_size
    linears = sum(linear_bytes(layer, server.weights) * _share(layer, shape, tp) for layer in shape.linears)
    outer = (shape.embedding_parameters + shape.head_parameters) * server.value_bytes / tp
    return linears + outer + (shape.other_parameters + shape.vision_parameters) * server.value_bytes


def adapter_bytes(server: Server) -> float:
    """Return the bytes that are reserved for adapters: `max_loras` of the largest rank on all linear layers.

    One of the two factors is split with the layer, the other is on every GPU (vllm/lora/layers,
    `create_lora_weights`; `fully_sharded_loras` is off by default).
    """
    numbers = 0.0
    tp = server.tensor_parallel_size
    for layer in server.shape.linears:
        by_input = layer.name in ROW_PARALLEL
        inputs = layer.inputs / (tp if by_input else 1)
        outputs = layer.outputs * (1 if by_input else _share(layer, server.shape, tp))
        numbers += layer.count * (inputs + outputs)
    return numbers * server.max_lora_rank * server.max_loras * server.value_bytes


def refuses_together(servers: Sequence[tuple[str, Server]]) -> str:
    """Return why some named servers cannot share their GPUs, "" when they can.

    Each takes its share of the whole GPU at its start and refuses when less is free
    (vllm/v1/worker/utils.py, `request_memory`).
    """
    on_gpu = [(name, server) for name, server in servers if server.device == "cuda"]
    total = sum(server.gpu_memory_utilization for _, server in on_gpu)
    if len(on_gpu) < 2 or total <= 1:
        return ""
    shares = " + ".join(f"{server.gpu_memory_utilization:g} ({name})" for name, server in on_gpu)
    return (
        f"the servers share a GPU and want {shares} = {total:g} of its memory (serving.gpu_memory_utilization of each)"
    )


def _share(layer: Linear, shape: Shape, tp: int) -> float:
    """Return the share of a layer's outputs that one GPU holds."""
    if not layer.is_linear and not layer.is_expert:
        return 1.0  # a router
    if layer.name in ("k_proj", "v_proj"):
        return 1 / min(tp, shape.kv_heads)
    if layer.name == "qkv_proj":
        heads = shape.heads + 2 * shape.kv_heads
        return (shape.heads / tp + 2 * shape.kv_heads / min(tp, shape.kv_heads)) / heads
    return 1 / tp


def _transient_bytes(server: Server, tokens: int) -> dict[str, float]:
    """Return what the largest batch needs for a moment: its layers, then the sampling of one token for each row.

    Three times the hidden state lives beside the input and the output of the MLP, which is twice as wide
    before its activation as after. With Llama 3.1 8B that is 2.06 and 2.99 GiB for 20000 and 29000 tokens;
    vLLM measured 2.07 and 2.99 (github.com/vllm-project/vllm/issues/10517). Experts repeat the hidden state
    for each that a token passes through (vllm/model_executor/layers/fused_moe/fused_moe.py, `cache13`).
    """
    shape, tp = server.shape, server.tensor_parallel_size
    width = shape.mlp_width / tp
    inner = max(2 * width, shape.experts_per_token * shape.hidden_size) + width
    layers = tokens * server.value_bytes * (inner + 3 * shape.hidden_size)
    rows = min(server.max_num_seqs, tokens)
    sampling = rows * shape.vocab_size * BYTES_PER_LOGIT
    hidden = tokens * server.value_bytes * shape.hidden_size
    return {"activations": layers} if layers > hidden + sampling else {"activations": hidden, "logits": sampling}


def _overhead_bytes(server: Server) -> float:
    if server.device == "cpu":
        return CPU_PROCESS_BYTES
    shared = COMMUNICATION_BYTES if server.tensor_parallel_size > 1 else 0.0
    graphs = 0.0 if server.enforce_eager else _num_graphs(server.max_num_seqs) * server.shape.layers
    return CONTEXT_BYTES + shared + graphs * GRAPH_BYTES_PER_LAYER


def _num_graphs(max_num_seqs: int) -> int:
    """Return how many CUDA graphs are captured: mixed batches up to twice the sequences, and decoding alone.

    Sizes are 1, 2, 4, multiples of 8 to 256, then of 16 to 512 (vllm/config/vllm.py,
    `_set_cudagraph_sizes`).
    """
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    mixed = [size for size in sizes if size <= 2 * max_num_seqs]
    decoding = [size for size in sizes if size <= max_num_seqs]
    return len(mixed) + len(decoding)


def _kv_value_bytes(server: Server) -> float:
    return 1.0 if server.kv_cache_dtype.startswith("fp8") else server.value_bytes


def _problem(server: Server, found: ServingMemory, num_gpus: int, usable_bytes: float) -> str:
    shape, tp = server.shape, server.tensor_parallel_size
    if server.device == "cuda" and 0 < num_gpus < tp:
        return f"tensor_parallel_size = {tp} needs {tp} GPUs, and there {'is' if num_gpus == 1 else 'are'} {num_gpus}"
    if shape.heads % tp:
        return f"tensor_parallel_size = {tp} does not divide the {shape.heads} attention heads"
    if max(tp, shape.kv_heads) % min(tp, shape.kv_heads):
        return f"tensor_parallel_size = {tp} does not fit {shape.kv_heads} key and value heads"
    if 0 < shape.max_positions < server.length:  # vllm/config/model.py, `_get_and_verify_max_len`
        return f"max_model_len = {server.length} is longer than the model's {shape.max_positions} positions"
    if server.device == "cpu" and found.memory.total > found.budget_bytes:
        needs, has = found.memory.total / GIB, found.budget_bytes / GIB
        return f"it needs {needs:.1f} GiB, and this machine has {has:.1f} GiB that can be used"
    if server.device == "cuda" and found.budget_bytes > usable_bytes - CONTEXT_BYTES:
        return (  # vllm/v1/worker/utils.py, `request_memory`
            f"gpu_memory_utilization = {server.gpu_memory_utilization:g} is {found.budget_bytes / GIB:.1f} GiB, and "
            f"vLLM's own context leaves {(usable_bytes - CONTEXT_BYTES) / GIB:.1f} GiB free"
        )
    if not found.num_blocks:
        fixed = found.memory.total
        return (
            f"it needs {fixed / GIB:.1f} GiB beside the KV cache, and vLLM takes {found.budget_bytes / GIB:.1f} GiB "
            f"of the GPU (gpu_memory_utilization = {server.gpu_memory_utilization:g})"
        )
    if not found.sequences(server.length):
        return f"one sequence of {server.length} tokens does not fit; max_model_len={found.longest} would"
    return ""
