"""Speed of serving: what a server does for one request, at full load, and under the load that is asked for.

    speed = Speed(server, machine.rates, max_in_flight=found.sequences(768))
    speed.tokens_per_second_alone()           Range: one request by itself
    speed.requests_per_second(load)           Range: the most that it can carry
    speed.under(load)                         in flight, time to first token, speed of each answer

A roofline (Williams et al. 2009): a decoding step takes as long as reading weights and KV cache, or as
its arithmetic, whichever is longer, and a fixed part; a prompt takes its arithmetic. What share of the
peak rates is reached is stated below and checked against published measurements (docs/hardware.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.estimate.flops import attention_flops_per_token, decode_flops, matmul_flops_per_token
from largeforge.estimate.kv_cache import cache_of
from largeforge.estimate.ranges import Range
from largeforge.estimate.stored import linear_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.estimate.serving import Server
    from largeforge.hardware import Rates


@dataclass(frozen=True)
class Efficiency:
    """What software reaches of a device's peak rates."""

    bandwidth: float
    """Share of the memory bandwidth while decoding."""
    arithmetic: float
    """Share of the peak arithmetic rate while reading prompts."""
    step_s: float
    """Fixed part of a step: scheduling, launches, sampling."""
    layer_s: float
    """Part of a step for each layer: kernels that are too short to fill the device."""
    expert_s: float
    """The same again for a layer of a mixture of experts: sorting rows by expert, small products; an allowance."""
    row_s: float
    """Part of a step for each sequence in it."""
    reduction_s: float
    """Latency of one all-reduce among GPUs."""


SLOW = Efficiency(
    bandwidth=0.60, arithmetic=0.30, step_s=3e-3, layer_s=20e-6, expert_s=80e-6, row_s=30e-6, reduction_s=40e-6
)
EXPECTED = Efficiency(
    bandwidth=0.80, arithmetic=0.50, step_s=0.6e-3, layer_s=10e-6, expert_s=40e-6, row_s=10e-6, reduction_s=15e-6
)
FAST = Efficiency(
    bandwidth=0.92, arithmetic=0.70, step_s=0.3e-3, layer_s=4e-6, expert_s=15e-6, row_s=4e-6, reduction_s=8e-6
)
"""From published runs of vLLM with Llama 3.1 8B. Bandwidth: 77 % of an A100's, overheads included
(johnmusgrave.com/p/vllm-throughput-latency-sweep-on). Arithmetic: 5777 answers' tokens a second of MLPerf
v5.1 on an H100 and 1642 on an L40S, both in fp8, are 47 and 36 % in prompts alone (Red Hat's submission)."""
FRONT_S = 0.01
"""HTTP, tokenizer and queue of the API server before a prompt is computed."""
TAIL = math.log(20)
"""Times the mean that 95 % of exponentially distributed waits stay under."""


@dataclass(frozen=True)
class Load:
    """Requests that arrive at one server."""

    prompt_tokens: int = 512
    completion_tokens: int = 256
    requests_per_second: float = 0.0

    @property
    def length(self) -> int:
        """Tokens of a finished sequence."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class UnderLoad:
    """How a server does under a load that it can carry."""

    in_flight: Range
    """Requests at any moment: rate times latency (Little 1961)."""
    ttft_p95_s: Range
    """Time to first token that 95 % of the requests stay under."""
    tokens_per_second: Range
    """Speed at which each single answer streams."""


@dataclass(frozen=True)
class Speed:
    """What one server can do on its GPUs, or on the CPU."""

    server: Server
    rates: Rates
    max_in_flight: int
    """Sequences that its KV cache and `max_num_seqs` allow side by side."""

    @property
    def is_known(self) -> bool:
        """Whether the device's rates are known at all; nothing else may be asked when they are not."""
        return bool(self._peak_tflops and self.rates.bandwidth_gb_per_s and self.max_in_flight)

    def tokens_per_second_alone(self, context: int = 512) -> Range:
        """Return the speed of one answer while nothing else is served."""
        return _range(lambda given: 1 / self._step_s(1, context, given))

    def ttft_s(self, prompt_tokens: int) -> Range:
        """Return the time to first token while nothing else is served."""
        return _range(lambda given: FRONT_S + self._prompt_s(prompt_tokens, given))

    def requests_per_second(self, load: Load) -> Range:
        """Return how many requests a second it can carry, with as many in flight as fit."""
        return _range(lambda given: 1 / self._work_s(load, self.max_in_flight, given))

    def under(self, load: Load) -> UnderLoad | None:
        """Return how it does under a load; None when even the expected speed cannot carry it.

        Where the slow estimate cannot, its values are those of a server that is full.
        """
        states = [self._state(load, given) for given in (SLOW, EXPECTED, FAST)]
        if states[1] is None:
            return None
        full = self._full(load, SLOW)
        slow, expected, fast = (state or full for state in states)
        columns = zip(slow, expected, fast, strict=True)
        in_flight, ttft, each = (Range(*sorted(column)) for column in columns)
        return UnderLoad(in_flight=in_flight, ttft_p95_s=ttft, tokens_per_second=each)

    def _state(self, load: Load, given: Efficiency) -> tuple[float, float, float] | None:
        """Return requests in flight, p95 time to first token and tokens/s of each; None when overloaded."""
        rate = load.requests_per_second
        if rate * self._work_s(load, self.max_in_flight, given) >= 1:
            return None
        low, high = 0.0, float(self.max_in_flight)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if rate * self._latency_s(load, middle, given) > middle else (low, middle)
        return self._at(load, high, given)

    def _full(self, load: Load, given: Efficiency) -> tuple[float, float, float]:
        busy = 1 / self._work_s(load, self.max_in_flight, given)
        return self._at(Load(load.prompt_tokens, load.completion_tokens, busy * 0.99), self.max_in_flight, given)

    def _at(self, load: Load, in_flight: float, given: Efficiency) -> tuple[float, float, float]:
        step, prompt = self._shared_step_s(load, in_flight, given), self._prompt_s(load.prompt_tokens, given)
        busy = min(load.requests_per_second * prompt, 0.99)
        wait = busy * prompt / (2 * (1 - busy))  # Pollaczek-Khinchine for prompts of one length
        return in_flight, FRONT_S + prompt + step + TAIL * wait, 1 / step

    def _latency_s(self, load: Load, in_flight: float, given: Efficiency) -> float:
        first = FRONT_S + self._prompt_s(load.prompt_tokens, given)
        return first + load.completion_tokens * self._shared_step_s(load, in_flight, given)

    def _shared_step_s(self, load: Load, in_flight: float, given: Efficiency) -> float:
        """Return the time between two tokens of an answer while prompts of others take their part."""
        reading = load.requests_per_second * self._prompt_s(load.prompt_tokens, given)
        return self._step_s(max(in_flight, 1), _mean_context(load), given) / max(1 - reading, 0.01)

    def _work_s(self, load: Load, in_flight: float, given: Efficiency) -> float:
        """Return how long a request occupies the server, shared with the others in flight."""
        decoding = load.completion_tokens * self._step_s(in_flight, _mean_context(load), given) / in_flight
        return self._prompt_s(load.prompt_tokens, given) + decoding

    def _prompt_s(self, tokens: int, given: Efficiency) -> float:
        shape = self.server.shape
        flops = tokens * (matmul_flops_per_token(shape, head=False) + attention_flops_per_token(shape, tokens))
        return flops / self._flops_per_s(given) + self._fixed_s(given) + self._reduce_s(tokens, given)

    def _step_s(self, rows: float, context: int, given: Efficiency) -> float:
        tp = self.server.tensor_parallel_size
        read = self._weights_read(rows) / tp + rows * context * self._kv_bytes_per_token(context)
        reading = read / (self.rates.bandwidth_gb_per_s * 1e9 * given.bandwidth)
        arithmetic = rows * decode_flops(self.server.shape, context) / self._flops_per_s(given)
        return max(reading, arithmetic) + self._fixed_s(given) + rows * given.row_s + self._reduce_s(rows, given)

    def _fixed_s(self, given: Efficiency) -> float:
        shape = self.server.shape
        return given.step_s + shape.layers * (given.layer_s + (given.expert_s if shape.experts else 0.0))

    def _weights_read(self, rows: float) -> float:
        """Return the bytes of weights that a step reads: all that any of its rows passes through.

        Of the experts, each row meets a random part; the embedding is looked up, not read.
        """
        shape, total = self.server.shape, 0.0
        for layer in shape.linears:
            used = 1 - (1 - layer.active / layer.count) ** rows if layer.is_expert and layer.active else 1.0
            total += linear_bytes(layer, self.server.weights) * used
        head = shape.vocab_size * shape.hidden_size
        return total + (head + shape.other_parameters) * self.server.value_bytes

    def _kv_bytes_per_token(self, context: int) -> float:
        """Return the bytes of KV cache that one step reads on a GPU for each token of the context."""
        server = self.server
        value = 1.0 if server.kv_cache_dtype.startswith("fp8") else server.value_bytes
        cache = cache_of(server.shape, value, tp=server.tensor_parallel_size)
        shape = server.shape
        windowed = shape.window_layers if shape.window else 0
        seen = (shape.layers - windowed) + windowed * min(1.0, shape.window / max(context, 1))
        return cache.bytes_per_token * seen / shape.layers

    def _reduce_s(self, rows: float, given: Efficiency) -> float:
        """Return the time of two all-reduces a layer (Shoeybi et al., arXiv:1909.08053), as a ring moves them."""
        tp, shape = self.server.tensor_parallel_size, self.server.shape
        if tp == 1:
            return 0.0
        moved = 2 * (tp - 1) / tp * rows * shape.hidden_size * self.server.value_bytes
        link = (self.rates.link_gb_per_s or 16.0) * 1e9
        return 2 * shape.layers * (given.reduction_s + moved / link)

    @property
    def _peak_tflops(self) -> float:
        rates, weights = self.rates, self.server.weights
        if self.server.device == "cpu" or weights == "fp32":
            return rates.fp32_tflops
        return rates.fp8_tflops or rates.bf16_tflops if weights == "fp8" else rates.bf16_tflops

    def _flops_per_s(self, given: Efficiency) -> float:
        return self._peak_tflops * 1e12 * given.arithmetic * self.server.tensor_parallel_size


def in_flight_limit(server: Server, sequences: int) -> int:
    """Return how many sequences run side by side where the KV cache has room for `sequences`."""
    return min(server.max_num_seqs, sequences)


def _mean_context(load: Load) -> int:
    return load.prompt_tokens + load.completion_tokens // 2


def _range(compute: Callable[[Efficiency], float]) -> Range:
    low, middle, high = sorted(compute(given) for given in (SLOW, EXPECTED, FAST))
    return Range(low, middle, high)
