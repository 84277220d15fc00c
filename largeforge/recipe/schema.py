"""What a recipe may say. Every section is a model here or the `Config` of an extension module.

Relations between sections (an expert that names an unknown model, a gate on a metric that
nothing computes) are checked in `checks.py`, so that all of a recipe's errors come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from largeforge.recipe import extensions, model_ref
from largeforge.recipe.base import Extension, Strict

if TYPE_CHECKING:
    from typing import TypeAlias

    from largeforge.recipe.training import TrainingMethod

    Method: TypeAlias = TrainingMethod
    Adapter: TypeAlias = Extension
    Launcher: TypeAlias = Extension
    Evaluator: TypeAlias = Extension
    Router: TypeAlias = Extension
else:
    Method = extensions.union("method")
    Adapter = extensions.union("adapter")
    Launcher = extensions.union("launcher")
    Evaluator = extensions.union("evaluation")
    Router = extensions.union("router")


def _valid_ref(text: str) -> str:
    model_ref.parse(text)
    return text


Reference = Annotated[str, AfterValidator(_valid_ref)]


def _flat_gates(gates: Any) -> Any:
    """Accept `vs_base: {loss: …}` for `vs_base.loss: …`: an override on the command line makes the former."""
    if not isinstance(gates, dict):
        return gates
    flat: dict[str, Any] = {}
    for metric, condition in gates.items():
        nested = isinstance(condition, dict)
        flat.update({f"{metric}.{name}": value for name, value in condition.items()} if nested else {metric: condition})
    return flat


NAME_PATTERN = "^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Gates = Annotated[dict[str, str], BeforeValidator(_flat_gates)]
RegistryName = Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")]
RegistryAlias = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Architecture(Strict):
    """Fields of a model's `config.json`, under the names that transformers gives them."""

    model_type: str
    """Architecture family, for example `qwen2` or `llama`."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream."""
    intermediate_size: int = Field(gt=0)
    """Width of the MLP."""
    num_hidden_layers: int = Field(gt=0)
    """Number of decoder layers."""
    num_attention_heads: int = Field(gt=0)
    """Number of query heads."""
    num_key_value_heads: int = Field(gt=0)
    """Number of key and value heads; fewer than the query heads means grouped-query attention."""
    head_dim: int = 0
    """Width of one head; 0 means hidden_size / num_attention_heads."""
    vocab_size: int = Field(default=0, ge=0)
    """Rows of the embedding; 0 means the size of the tokenizer."""
    max_position_embeddings: int = Field(default=4096, gt=0)
    """Longest context in tokens."""
    tie_word_embeddings: bool = False
    """Whether the output head is the embedding."""
    rope_theta: float = 10000.0
    """Base of the rotary position embedding."""
    rms_norm_eps: float = 1e-6
    """Epsilon of RMSNorm."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of random initial weights."""
    num_experts: int = Field(default=0, ge=0)
    """Number of experts per layer of a mixture of experts; 0 for a dense model."""
    num_experts_per_tok: int = Field(default=0, ge=0)
    """Experts that each token passes through."""


class TokenizerTraining(Strict):
    """Train a byte-level BPE tokenizer on the job's own data (only for `tiny:` models)."""

    vocab_size: int = Field(default=1200, ge=300)
    """Number of tokens, the special ones included."""
    individual_digits: bool = True
    """Whether each digit is a token of its own."""


class Model(Strict):
    """The model that a job starts from, or that an expert serves."""

    name: str = ""
    """Name of the choice under `conf/model/`."""
    ref: Reference
    """Where the weights are: hub:, path:, run:, registry:, tiny: or job:."""
    architecture: Architecture | None = None
    """Fields of config.json; needed for `tiny:`, otherwise used to plan without a download."""
    tokenizer: TokenizerTraining | None = None
    """How to make a tokenizer; only for `tiny:` models."""
    license: str = ""
    """Licence of the weights."""


class Dataset(Strict):
    """Rows to train on and rows held out to judge with."""

    name: str = ""
    """Name of the choice under `conf/dataset/`."""
    path: str = Field(min_length=1)
    """A JSONL or Parquet file, relative to the working directory; `recipe:data/x.jsonl` is relative to the recipe."""
    format: Literal["auto", "messages", "prompt_response", "preference"] = "auto"
    """Form of the rows: `messages`, `prompt`+`response`, or `prompt`+`chosen`+`rejected`."""
    heldout_path: str = ""
    """Rows that are never trained on; empty means a part of `path` by `heldout_fraction`."""
    heldout_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of `path` held out, chosen by a hash of the prompt, so that adding rows moves none."""
    system: str = ""
    """System prompt for rows that have none."""
    max_rows: int = Field(default=0, ge=0)
    """Use only the first rows; 0 means all."""


class Job(Strict):
    """One model through its life: prepare, train, evaluate, merge, register."""

    model: Model
    dataset: Dataset
    method: Method
    adapter: Adapter
    evaluation: dict[str, Evaluator] = {}
    """Evaluators by name."""
    gates: Gates = {}
    """Metric to condition, for example `exact_match: ">= 0.85"` or `vs_base.exact_match: "> 0"`."""
    merge: bool = False
    """Whether the adapter is merged into the base after the gates."""
    register_as: RegistryName = ""
    """Name in the model registry; empty means that it is not registered."""
    register_alias: RegistryAlias = "champion"
    """Alias that points to the new version."""


class Expert(Strict):
    """One model that the gateway can send requests to."""

    model: str = Field(min_length=1)
    """A key of `models`, or a model reference."""
    adapter_on: str = ""
    """Another expert whose server also carries this one as a LoRA adapter; empty means a server of its own."""
    description: str = ""
    """What the expert is for, shown by `/v1/models`."""
    keywords: list[str] = []
    """Words in the last user message that choose this expert (router `keyword`)."""


class Topology(Strict):
    """Which experts are served, and which one answers when another cannot."""

    name: str = ""
    """Name of the choice under `conf/topology/`."""
    experts: dict[Name, Expert] = Field(min_length=1)
    fallback: str = "general"
    """Expert that answers when the chosen one is down or unknown."""


class Serving(Strict):
    """How vLLM is started; names are vLLM's own."""

    name: Literal["vllm"] = "vllm"
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


class Gateway(Strict):
    """The one address that clients talk to."""

    name: str = "default"
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


class Question(Strict):
    """Something to ask the finished deployment."""

    prompt: str = Field(min_length=1)
    expert: str
    """Expert that must answer."""
    client: Literal["router", "openai"] = "router"
    """`router` is LargeForge's RouterClient, `openai` the official client."""
    stream: bool = False
    max_tokens: int = Field(default=64, gt=0)


class Verify(Strict):
    """Questions asked after serving has started; each must be answered by its expert."""

    questions: list[Question] = []


class Hardware(Strict):
    """The machine that the stages run on."""

    name: str
    """Name of the choice under `conf/hardware/`; `auto` reads this machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpu: str = ""
    """GPU as the vendor names it."""
    num_gpus: int = Field(default=0, ge=0)
    memory_gib: float = Field(default=0, ge=0)
    """Memory of one GPU, or of the machine for `cpu`; 0 means as found."""
    cores: int = Field(default=0, ge=0)
    """CPU cores to use; 0 means as found."""


class Environment(Strict):
    """The interpreter that stages run in."""

    name: str = "current"
    python: str = ""
    """Path of an interpreter with LargeForge installed; empty means the runner's own."""


class Registry(Strict):
    """Where registered models live (MLflow)."""

    name: str = "local"
    uri: str = "sqlite:///registry/mlflow.db"
    """MLflow tracking and registry URI."""
    artifacts: str = "registry/artifacts"
    """Folder (or store URI) for the files of new models."""


class Host(Strict):
    """One machine of an inventory."""

    address: str = Field(min_length=1)
    """Host name or IP address; `local` is this machine."""


class Hosts(Strict):
    """The inventory: the machines that a recipe may use."""

    name: str
    """Name of the file under `hosts/`."""
    hosts: dict[Name, Host] = Field(min_length=1)


class Runs(Strict):
    """Where runs are written, and whether one continues."""

    root: str = "runs"
    """Folder of all runs, relative to the working directory."""
    resume: bool = True
    """Continue the newest unfinished run of the same recipe and reuse finished stages."""


class Recipe(Strict):
    """A whole recipe after composition.

    One training job stands at the top level (`model`, `dataset`, `method`, ...); several stand
    under `jobs`. `training_jobs` gives both in one form.
    """

    name: Name
    description: str = ""
    mode: Literal["run", "plan"] = "run"
    """`plan` prints what would be done and stops."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    model: Model | None = None
    dataset: Dataset | None = None
    method: Method | None = None
    adapter: Adapter | None = None
    evaluation: dict[str, Evaluator] = {}
    gates: Gates = {}
    merge: bool = False
    register_as: RegistryName = ""
    register_alias: RegistryAlias = "champion"
    jobs: dict[Name, Job] = {}
    """Training jobs by name."""
    models: dict[str, Model] = {}
    """Models that experts name."""
    topology: Topology | None = None
    router: Router | None = None
    serving: Serving = Serving()
    gateway: Gateway = Gateway()
    verify: Verify = Verify()
    serve: bool = False
    """Keep serving in the foreground until interrupted."""
    hardware: Hardware
    hosts: Hosts
    launcher: Launcher
    environment: Environment = Environment()
    registry: Registry = Registry()
    runs: Runs = Runs()

    @property
    def training_jobs(self) -> dict[str, Job]:
        """All training jobs by name; the one at the top level is called `main`."""
        if self.model is None or self.dataset is None or self.method is None:
            return dict(self.jobs)
        fields = {key: getattr(self, key) for key in Job.model_fields}
        if fields["adapter"] is None:
            fields["adapter"] = extensions.load("adapter", "none").Config()
        return {"main": Job.model_construct(**fields)}
