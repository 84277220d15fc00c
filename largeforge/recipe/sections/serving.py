"""Experts, the servers that run them, and the gateway before them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from largeforge.recipe.base import Name, Port, Strict
from largeforge.recipe.sections.quality import Quality
from largeforge.recipe.sections.resilience import Balance, Breaker, CanaryGuard, Queue, Retries
from largeforge.recipe.sections.routing import Flag, Shadow, Share, Sticky
from largeforge.recipe.sections.slos import Slo
from largeforge.recipe.sections.tls import ServerTls, UpstreamTls
from largeforge.recipe.sections.tracing import Tracing

Budget = Literal["", "low", "medium", "high"]
"""What an answer of an expert costs, from the cheapest to the dearest; empty where that does not matter."""


class Expert(Strict):
    """One model that the gateway can send requests to."""

    model: str = Field(min_length=1)
    """A key of `models`, or a model reference."""
    task: Literal["generate", "embed", "score"] = "generate"
    """What the model does: write answers, turn texts into vectors, or judge pairs of texts (rerank)."""
    replicas: int = Field(default=1, gt=0)
    """Servers that answer for it, each with a copy of the model; of one on another's server leave it at 1."""
    fallback: list[Name] | None = None
    """Experts that answer in its place when none of its servers does, one after the other; where it is not given,
    `topology.fallback` for an expert that generates and nobody for others, nobody where it is empty."""
    adapter_on: str = ""
    """Another expert whose server also carries this one as a LoRA adapter; empty means a server of its own."""
    description: str = ""
    """What the expert is for, shown by `/v1/models`."""
    keywords: list[str] = []
    """Words in the last user message that choose this expert (router `keyword`)."""
    examples: list[str] = []
    """Messages that are for this expert (router `embedding`)."""
    weight: float = Field(default=1.0, ge=0)
    """Part of the traffic beside the weights of the others (router `weighted`)."""
    max_context: int = Field(default=0, ge=0)
    """Longest request with its answer, in tokens as the gateway estimates them (4 characters each), that routers send
    it; longer ones go to an expert that takes them. 0 is no limit; vLLM's own holds in any case."""
    budget: Budget = ""
    """Class of its cost: a request with a smaller one in the header `x-largeforge-budget` is sent elsewhere."""
    variants: dict[Name, Share] = {}
    """Experts that answer in its place, with the share of its requests; the rest stays (A/B)."""
    shadow: Shadow | None = None
    """Expert that is asked the same, and whose answer is thrown away."""


class Topology(Strict):
    """Which experts are served, and which one answers when another cannot."""

    name: str = ""
    """Name of the choice under `conf/topology/`."""
    experts: dict[Name, Expert] = Field(min_length=1)
    """Experts by name."""
    fallback: str = "general"
    """Expert that answers when the chosen one is down or unknown."""
    flags: dict[Name, Flag] = {}
    """Named switches that rules can ask for."""
    sticky: Sticky = "user"
    """Who always gets the same variant, shadow and flags."""
    salt: str = ""
    """Another text divides everybody anew among variants, shadows and flags."""


class Targets(Strict):
    """What a deployment must do; a plan says whether the hardware can. 0 means not asked for."""

    requests_per_second: float = Field(default=0, ge=0)
    """Requests that arrive in a second, over all experts of a server."""
    prompt_tokens: int = Field(default=512, gt=0)
    """Length of a typical prompt."""
    completion_tokens: int = Field(default=256, gt=0)
    """Length of a typical answer."""
    ttft_p95_ms: float = Field(default=0, ge=0)
    """Time to first token that 95 % of the requests must stay under."""
    tokens_per_second: float = Field(default=0, ge=0)
    """Tokens that each single answer must stream in a second."""
    load_s: float = Field(default=0, ge=0)
    """Time to load a model that is on the server's disk. A plan says nothing about it; an export gives a server so
    long, and two minutes for the rest of its start, before it is started again."""


class Serving(Strict):
    """How vLLM is started; names are vLLM's own."""

    name: Literal["vllm"] = "vllm"
    """Inference engine."""
    python: str = ""
    """Interpreter that has vLLM; empty means the one that runs LargeForge."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision of the weights; `auto` is vLLM's own choice on a GPU and float32 on a CPU."""
    max_model_len: int = Field(default=0, ge=0)
    """Longest sequence in tokens; 0 means the model's own limit."""
    max_num_seqs: int = Field(default=256, gt=0)
    """Sequences in flight at once."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of GPU memory that vLLM takes."""
    tensor_parallel_size: int = Field(default=1, gt=0)
    """GPUs that share one model."""
    enable_prefix_caching: bool = True
    """Whether equal prompt prefixes share their KV cache."""
    enforce_eager: bool = False
    """Skip compilation: starts faster, generates slower."""
    max_lora_rank: int = Field(default=64, gt=0)
    """Largest rank among the adapters."""
    cpu_kvcache_gib: int = Field(default=1, gt=0)
    """KV cache in GiB on a machine without a GPU."""
    startup_timeout_s: float = Field(default=600, gt=0)
    """How long a server may take until it is ready."""
    extra: dict[str, Any] = {}
    """Further vLLM options by their long name without dashes, for example `swap-space: 4`."""
    targets: Targets = Targets()
    """Load that the plan is to check against what the hardware can do."""


class Batches(Strict):
    """Bulk inference: files of requests that are answered when nobody else waits."""

    folder: str = ""
    """Where files, the queue and answers are kept; empty means that there are no files and batches."""
    max_file_mib: float = Field(default=200.0, gt=0)
    """Largest file that can be uploaded."""
    concurrency: int = Field(default=16, gt=0)
    """Requests of batches that run at once; each request of others takes the place of one, down to a single one."""
    keep_days: float = Field(default=30.0, gt=0)
    """How long files and finished batches are kept."""


_OF_THE_PROCESS = ("host", "port", "tls", "batches", "workers", "tracing")
"""Settings of a gateway that only a new process takes up."""


class Gateway(Strict):
    """The one address that clients talk to."""

    name: str = "default"
    """Name of the choice under `conf/gateway/`."""
    host: str = "127.0.0.1"
    """Address to listen on; the loopback unless told otherwise."""
    port: Port = 8080
    """Port to listen on; 0 means any free one."""
    connect_timeout_s: float = Field(default=2.0, gt=0)
    """How long to wait for an expert to accept a connection."""
    request_timeout_s: float = Field(default=300.0, gt=0)
    """How long a whole answer may take."""
    health_interval_s: float = Field(default=2.0, gt=0)
    """Seconds between two health probes of each expert."""
    max_body_mib: float = Field(default=8.0, gt=0)
    """Largest request body."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """How long running answers may take to finish once the gateway is told to stop; a gateway that a run serves with
    has no more than 12 s."""
    workers: int = Field(default=1, gt=0, le=64)
    """Processes that answer side by side on the same port; one is enough for some thousand requests a second."""
    balance: Balance = "least_outstanding"
    """How one of an expert's replicas is chosen: the one with the fewest unfinished requests, or the one that answered
    the same beginning before (`prefix`), whose KV cache has it."""
    retries: Retries = Retries()
    """Further attempts when a server fails before the first byte of its answer."""
    breaker: Breaker = Breaker()
    """When a failing server is left alone."""
    queue: Queue = Queue()
    """Requests that wait for a busy expert."""
    tls: ServerTls = ServerTls()
    """TLS for clients."""
    upstream_tls: UpstreamTls = UpstreamTls()
    """TLS to servers."""
    tracing: Tracing = Tracing()
    """OpenTelemetry traces."""
    batches: Batches = Batches()
    """Files and batches."""
    quality: Quality = Quality()
    """How answers are judged beside the traffic."""
    canary_guard: CanaryGuard = CanaryGuard()
    """When a bad canary is taken out although no controller does."""
    slo: Slo = Slo(burn_rates=())
    """What is promised, to show and to measure it; filled in from the recipe's own `slo`."""

    def of_the_process(self) -> dict[str, Any]:
        """Return the settings that only a new gateway process takes up, by their keys, as plain data."""
        values = self.model_dump(mode="json", include=set(_OF_THE_PROCESS))
        return {**{key: values[key] for key in _OF_THE_PROCESS}, "slo": self.slo.thresholds_ms()}


class Question(Strict):
    """Something to ask the finished deployment."""

    prompt: str = Field(min_length=1)
    """Text of the user message."""
    expert: str
    """Expert that must answer."""
    client: Literal["router", "openai"] = "router"
    """`router` is LargeForge's RouterClient, `openai` the official client."""
    stream: bool = False
    """Whether the answer is asked for piece by piece."""
    max_tokens: int = Field(default=64, gt=0)
    """Longest answer in tokens."""


class Verify(Strict):
    """Questions asked after serving has started; each must be answered by its expert."""

    questions: list[Question] = []
    """Questions in the order in which they are asked."""
