"""Two models on the target hardware, served by vLLM as they will be, asked the same in turns."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from largeforge import hardware, processor, reaper
from largeforge.errors import ServingError
from largeforge.quantizing.acceptance import Measured, Side
from largeforge.quantizing.folder import weights_bytes
from largeforge.serving import server
from largeforge.serving.model_servers import ModelServers
from largeforge.serving.placement import ServedExpert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from largeforge.quantizing.prompts import Prompt
    from largeforge.recipe.quantization import Acceptance
    from largeforge.recipe.schema import Serving

ORIGINAL, QUANTIZED = "original", "quantized"
_ROUND_S = 1.0
"""About how long one round of generation takes: long beside the time of a request, short beside the noise of a day."""
_LEAST_TOKENS, _MOST_TOKENS = 16, 256
_WARMING = 4
"""Times that a server generates before it is measured: kernels are made for each new shape, seconds for some."""
_BATCH = 32
"""Prompts in one request."""
_TIMEOUT_S = 600.0
_SERVER_GIB = 1.5
"""What a vLLM server on a CPU takes besides weights and KV cache (docs/benchmarks.md)."""
_LOADED = re.compile(r"Model loading took ([\d.]+) GiB")


@dataclass
class _Asked:
    """What one model said so far."""

    name: str
    folder: Path
    port: int = 0
    memory_bytes: float = 0.0
    tokens_per_s: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def side(self) -> Side:
        """Return it as the numbers to judge by."""
        size = weights_bytes(self.folder)
        return Side(size, self.memory_bytes, tuple(self.tokens_per_s), tuple(self.scores))


class Measuring:
    """Comparisons of one original with what was made of it; `report` is told of the progress in words.

    The original is served once, for all of them: beside the other where both fit, or else before the first.
    """

    def __init__(
        self,
        original: Path,
        prompts: Sequence[Prompt],
        rules: Acceptance,
        *,
        serving: Serving,
        device: str,
        logs: Path,
        report: Callable[[str], None],
    ):
        self.original = _Asked(ORIGINAL, original)
        self.prompts, self.rules = prompts, rules
        self.serving, self.device = serving, device
        self.logs, self.report = logs, report
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def compare(self, folder: Path, *, at_load: bool = False) -> Measured:
        """Serve a quantized model and the original, and ask both.

        Raises ServingError when one cannot be served, or does not answer.
        """
        original, quantized = self.original, _Asked(QUANTIZED, folder)
        beside = self._fit_together([original, quantized])
        if not original.answers:
            self._ask_original(keep=beside)
        with self._served(quantized, halved=bool(original.port)):
            self._judge(quantized)
            if original.port:
                original.tokens_per_s.clear()
            self._speeds([original, quantized] if original.port else [quantized])
            quantized.memory_bytes = self._memory(quantized)
        same = sum(one == other for one, other in zip(original.answers, quantized.answers, strict=True))
        return Measured(original.side(), quantized.side(), same / max(1, len(self.prompts)), at_load)

    def _ask_original(self, *, keep: bool) -> None:
        """Ask the original; its server stays where another one fits beside it."""
        stack = self._stack if keep else ExitStack()
        with nullcontext() if keep else stack:
            stack.enter_context(self._served(self.original, halved=keep))
            self._judge(self.original)
            if not keep:
                self._speeds([self.original])
            self.original.memory_bytes = self._memory(self.original)
        self.original.port = self.original.port if keep else 0

    def _fit_together(self, both: Sequence[_Asked]) -> bool:
        """Whether both servers fit beside each other; otherwise they are measured one after the other."""
        sizes = [weights_bytes(one.folder) for one in both]
        if self.device == "cpu":
            each = (self.serving.cpu_kvcache_gib + _SERVER_GIB) * 2**30
            return sum(sizes) * 1.2 + 2 * each < processor.free_memory_gib() * 2**30
        found = hardware.gpus()
        half = self.serving.gpu_memory_utilization / 2 * (found[0].memory_gib if found else 0.0) * 2**30
        return max(sizes) * 1.3 < half * self.serving.tensor_parallel_size

    @contextmanager
    def _served(self, one: _Asked, *, halved: bool) -> Iterator[None]:
        """Serve a model; with half of the GPU's memory where another one is beside it."""
        serving = self.serving
        if halved and self.device != "cpu":
            serving = serving.model_copy(update={"gpu_memory_utilization": serving.gpu_memory_utilization / 2})
        expert = ServedExpert(one.name, str(one.folder.absolute()), str(one.folder))
        with ModelServers([expert], serving=serving, device=self.device, logs=self.logs, report=self.report) as servers:
            one.port = servers.ports[one.name]
            yield

    def _judge(self, one: _Asked) -> None:
        self.report(f"{one.name}: judging on {len(self.prompts)} rows")
        one.answers = self._answers(one)
        one.scores = self._scores(one)

    def _answers(self, one: _Asked) -> list[str]:
        wanted = {"max_tokens": self.rules.max_new_tokens, "temperature": 0}
        found = self._complete(one, [prompt.prompt for prompt in self.prompts], wanted)
        return [str(choice["text"]) for choice in found]

    def _scores(self, one: _Asked) -> list[float]:
        """Return the mean log-probability of the tokens of each right answer, given those before."""
        judged = [prompt for prompt in self.prompts if prompt.answer]
        rows = [[*prompt.prompt, *prompt.answer] for prompt in judged]
        found = self._complete(one, rows, {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0})
        scores = []
        for prompt, choice in zip(judged, found, strict=True):
            told = choice["prompt_logprobs"][len(prompt.prompt) :]
            values = [float(at[str(token)]["logprob"]) for token, at in zip(prompt.answer, told, strict=True)]
            scores.append(sum(values) / len(values))
        return scores

    def _speeds(self, group: Sequence[_Asked]) -> None:
        """Generate in rounds, the models in turns and each first as often as the other."""
        prompts = [self.prompts[index % len(self.prompts)].prompt for index in range(self.rules.concurrency)]
        tokens = self._tokens_of_a_round(group, prompts)
        for number in range(self.rules.rounds):
            self.report(f"speed: round {number + 1} of {self.rules.rounds}, {len(prompts)} × {tokens} tokens")
            for one in group if number % 2 else reversed(group):
                one.tokens_per_s.append(len(prompts) * tokens / self._seconds(one, prompts, tokens))

    def _tokens_of_a_round(self, group: Sequence[_Asked], prompts: list[list[int]]) -> int:
        """Return how many tokens to generate for a prompt; both models are warm afterwards."""
        slowest = 0.0
        for one in group:
            slowest = max(slowest, min(self._seconds(one, prompts, _LEAST_TOKENS) for _ in range(_WARMING)))
        room = min(map(self._longest, group)) - max(map(len, prompts)) - 1
        most = max(_LEAST_TOKENS, min(_MOST_TOKENS, room))
        return max(_LEAST_TOKENS, min(most, int(_ROUND_S / slowest * _LEAST_TOKENS)))

    def _longest(self, one: _Asked) -> int:
        """Return the longest sequence that a server takes, in tokens."""
        answer = server.get(one.port, "/v1/models")
        return int(json.loads(answer[1])["data"][0]["max_model_len"]) if answer else 0

    def _seconds(self, one: _Asked, prompts: list[list[int]], tokens: int) -> float:
        wanted = {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0}
        started = time.perf_counter()
        self._post(one, {"prompt": prompts, **wanted})
        return time.perf_counter() - started

    def _complete(self, one: _Asked, rows: Sequence[list[int]], wanted: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(rows), _BATCH):
            choices = self._post(one, {"prompt": list(rows[start : start + _BATCH]), **wanted})["choices"]
            found += sorted(choices, key=lambda choice: int(choice["index"]))
        return found

    def _post(self, one: _Asked, body: dict[str, Any]) -> dict[str, Any]:
        answer = server.post(one.port, "/v1/completions", {"model": one.name, **body}, timeout_s=_TIMEOUT_S)
        if answer is None or answer[0] != 200:
            said = answer[1].decode(errors="replace")[:300] if answer else "it did not answer"
            raise ServingError(f"{one.name} cannot be asked: {said} ({self._log(one)})")
        return dict(json.loads(answer[1]))

    def _log(self, one: _Asked) -> Path:
        return self.logs / f"vllm-{one.name}.log"

    def _memory(self, one: _Asked) -> float:
        """Return the memory of the weights as vLLM says it, or else that of the server's processes."""
        told = _LOADED.findall(self._log(one).read_text(encoding="utf-8", errors="replace"))
        if self.device != "cpu" and told:
            return sum(map(float, told)) * 2**30
        return float(sum(map(_proportional_bytes, _processes(one.port))))


def _processes(port: int) -> list[int]:
    """Return the processes of the server that listens on a port, started by this one."""
    mine = reaper.descendants(os.getpid())
    words = ("--port", str(port))
    return [pid for pid in mine if _has(pid, words) or any(_has(above, words) for above in _ancestors(pid, mine))]


def _ancestors(pid: int, among: Sequence[int]) -> list[int]:
    found = []
    while (parent := _parent(pid)) in among:
        found.append(parent)
        pid = parent
    return found


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return 0


def _has(pid: int, words: tuple[str, str]) -> bool:
    with suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return words in itertools.pairwise(line)
    return False


def _proportional_bytes(pid: int) -> int:
    """Return the memory of a process, what it shares with others counted in parts."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
