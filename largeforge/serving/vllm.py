"""What to type to start vLLM: a recipe's `serving` section as a command line and an environment.

Pure: nothing is started and no file is read. Ports, ranks and threads are decided by the caller
(`deployment.py`), and what vLLM says when it fails is read in `diagnosis.py`.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from largeforge.errors import ServingError
from largeforge.serving import precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.recipe.schema import Serving

HOST = "127.0.0.1"
"""Servers listen on the loopback only; clients talk to the gateway."""

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM reserves memory for (vllm/config/lora.py, `MaxLoRARanks`)."""


def command(
    serving: Serving,
    *,
    model: str,
    served_name: str,
    adapters: Mapping[str, str],
    port: int,
    device: str,
    revision: str = "",
    adapter_rank: int = 0,
    chat_template: str = "",
    dtype: str = "",
    generates: bool = True,
    traces_url: str = "",
    host: str = HOST,
) -> list[str]:
    """Return the command line of one server.

    `adapters` maps the name that requests use to a LoRA folder, and `adapter_rank` is the largest
    rank among them, 0 when it is not known; `chat_template` is the file of a template that takes the place of the
    model's own; `dtype` is what the model needs where the recipe leaves it open; a model that does not generate embeds
    or scores; `traces_url` is where its spans go, empty for nowhere; `host` is the address that it listens on. Raises
    ServingError when that rank cannot be served.
    """
    argv = [serving.python or sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    default = precision.PLAIN if device == "cpu" else "auto"
    options: dict[str, Any] = {
        "model": model,
        "revision": revision or None,
        "runner": None if generates else "pooling",
        "served-model-name": served_name,
        "host": host,
        "port": port,
        "dtype": (dtype or default) if serving.dtype == "auto" else serving.dtype,
        "max-model-len": serving.max_model_len or None,
        "max-num-seqs": serving.max_num_seqs,
        "gpu-memory-utilization": None if device == "cpu" else serving.gpu_memory_utilization,
        "tensor-parallel-size": serving.tensor_parallel_size if serving.tensor_parallel_size > 1 else None,
        "distributed-executor-backend": "uni" if _in_engine(serving, device) else None,
        "enable-prefix-caching": serving.enable_prefix_caching if generates else None,
        "enforce-eager": serving.enforce_eager or None,
        "disable-uvicorn-access-log": True,
        "chat-template": chat_template or None,
        "otlp-traces-endpoint": traces_url or None,
        **_lora(serving, adapters, adapter_rank),
        **serving.extra,
    }
    return argv + [word for key, value in options.items() for word in _words(key, value)]


def environment(
    serving: Serving, *, device: str, offline: bool = False, threads: int = 0, has_traces: bool = False
) -> dict[str, str]:
    """Return the variables that a server needs beyond those that this process has.

    `offline` says that all files are folders of this machine; `threads` is the server's share of
    the CPU cores, 0 when it has the machine to itself; `has_traces` that it sends its spans somewhere.
    """
    variables = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if offline:
        variables["HF_HUB_OFFLINE"] = "1"
    if has_traces:
        variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"  # as the gateway's; vLLM's own is gRPC
        variables["OTEL_SERVICE_NAME"] = "vllm"
    if device != "cpu":
        variables["OMP_NUM_THREADS"] = "1"  # what vLLM takes when it is unset; our runner sets it for training
        return variables
    variables["VLLM_CPU_KVCACHE_SPACE"] = str(serving.cpu_kvcache_gib)
    if _in_engine(serving, device):
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if threads and _in_engine(serving, device):
        variables["OMP_NUM_THREADS"] = str(threads)
    return variables


def reserved_rank(serving: Serving, adapter_rank: int) -> int:
    """Return the smallest rank that vLLM accepts for adapters of up to `adapter_rank`, 0 when unknown.

    Raises ServingError when it would be over `serving.max_lora_rank`.
    """
    allowed = [rank for rank in LORA_RANKS if rank <= serving.max_lora_rank]
    if not adapter_rank and allowed:
        return allowed[-1]
    fitting = [rank for rank in allowed if rank >= adapter_rank]
    if not fitting:
        needed = next((rank for rank in LORA_RANKS if rank >= adapter_rank), 0)
        advice = f"Set serving.max_lora_rank={needed}." if needed else "Merge the adapter into its base instead."
        raise ServingError(
            f"serving.max_lora_rank = {serving.max_lora_rank}: an adapter has rank {adapter_rank}, and vLLM reserves "
            f"one of {', '.join(map(str, LORA_RANKS))}. {advice}"
        )
    return fitting[0]


def _in_engine(serving: Serving, device: str) -> bool:
    """Whether the CPU worker lives in the engine's process instead of one of its own.

    That saves an import of vLLM (a third of the start-up, half a GiB) and a hop per token, and it
    leaves the threads unbound: vLLM would bind every server on the machine to the same cores.
    `serving.extra.distributed-executor-backend: mp` gives vLLM's own way back.
    """
    backend = serving.extra.get("distributed-executor-backend", "uni")
    return device == "cpu" and serving.tensor_parallel_size == 1 and backend == "uni"


def _lora(serving: Serving, adapters: Mapping[str, str], adapter_rank: int) -> dict[str, Any]:
    if not adapters:
        return {}
    return {
        "enable-lora": True,
        "max-loras": len(adapters),
        "max-lora-rank": reserved_rank(serving, adapter_rank),
        "lora-modules": [f"{name}={path}" for name, path in adapters.items()],
    }


def _words(key: str, value: Any) -> list[str]:
    """Return one option as words; None leaves it out, and a boolean is vLLM's flag or its negation."""
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{key}" if value else f"--no-{key}"]
    if isinstance(value, dict):
        return [f"--{key}", json.dumps(value, separators=(",", ":"))]
    if isinstance(value, list | tuple):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}", str(value)]
