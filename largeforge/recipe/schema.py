"""What a recipe may say. Every section is a model here or the `Config` of an extension module.

Relations between sections (an expert that names an unknown model, a gate on a metric that
nothing computes) are checked in `checks.py`, so that all of a recipe's errors come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from largeforge.recipe import extensions, model_ref
from largeforge.recipe.base import Extension, Strict
from largeforge.recipe.evaluation import CONDITION

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


Reference = Annotated[
    str,
    AfterValidator(_valid_ref),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(model_ref.SCHEMES)}):."}),
]


def _flat_gates(gates: Any) -> Any:
    """Accept `vs_base: {loss: …}` for `vs_base.loss: …`: an override on the command line makes the former."""
    if not isinstance(gates, dict):
        return gates
    flat: dict[str, Any] = {}
    for metric, condition in gates.items():
        nested = isinstance(condition, dict)
        flat.update({f"{metric}.{name}": value for name, value in condition.items()} if nested else {metric: condition})
    return flat


_GATE = {"type": "string", "pattern": f"^{CONDITION.pattern}$"}
NAME_PATTERN = "^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Gates = Annotated[
    dict[str, str],
    BeforeValidator(_flat_gates),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [_GATE, {"type": "object", "additionalProperties": _GATE}]},
        }
    ),
]
RegistryName = Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")]
RegistryAlias = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class VisionArchitecture(Strict):
    """Fields of the `vision_config` of a model that also sees images: a SigLIP encoder."""

    model_type: str = "siglip_vision_model"
    """Architecture family of the encoder."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream."""
    intermediate_size: int = Field(gt=0)
    """Width of the MLP."""
    num_hidden_layers: int = Field(gt=0)
    """Number of encoder layers."""
    num_attention_heads: int = Field(gt=0)
    """Number of heads."""
    image_size: int = Field(gt=0)
    """Height and width of an image in pixels."""
    patch_size: int = Field(gt=0)
    """Height and width of a patch in pixels."""
    vision_use_head: bool = False
    """Whether the encoder has a pooling head."""


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
    num_local_experts: int | None = Field(default=None, gt=0)
    """The same as `num_experts`, as Mixtral and GPT-OSS write it."""
    moe_intermediate_size: int | None = Field(default=None, gt=0)
    """Width of one expert, where it is not `intermediate_size`."""
    shared_expert_intermediate_size: int | None = Field(default=None, gt=0)
    """Width of the expert that every token passes through (qwen2_moe)."""
    attention_bias: bool | None = None
    """Whether the attention's projections have biases, where the family leaves it open."""
    mlp_bias: bool | None = None
    """Whether the MLP's projections have biases, where the family leaves it open."""
    sliding_window: int | None = Field(default=None, ge=0)
    """Tokens that a layer with a sliding window sees; 0 for no window, left out for what the family has."""
    use_sliding_window: bool | None = None
    """Whether the window is used (Qwen)."""
    max_window_layers: int | None = Field(default=None, ge=0)
    """Layers below this one have no window (Qwen)."""
    sliding_window_pattern: int | None = Field(default=None, gt=0)
    """Every such layer has no window (Gemma 3)."""
    attn_logit_softcapping: float | None = Field(default=None, gt=0)
    """Bound of the attention scores (Gemma 2)."""
    final_logit_softcapping: float | None = Field(default=None, gt=0)
    """Bound of the logits (Gemma 2)."""
    vision_config: VisionArchitecture | None = None
    """The encoder of images beside the decoder (Gemma 3 from 4B on)."""

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    def config(self, *, vocab_size: int = 0) -> dict[str, Any]:
        """Return the fields as a `config.json` has them; `vocab_size` stands in where there is none."""
        fields = self.model_dump(exclude={"vision_config"})
        fields["vocab_size"] = self.vocab_size or vocab_size
        for name in ("head_dim", "num_experts", "num_experts_per_tok", "vocab_size"):
            if not fields[name]:
                del fields[name]
        if self.sliding_window == 0:
            fields["sliding_window"] = None
        if self.vision_config is None:
            return fields
        text = {**fields, "model_type": f"{self.model_type}_text"}
        return {"model_type": self.model_type, "text_config": text, "vision_config": self.vision_config.model_dump()}


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
    weights: Literal["", "fp32", "bf16", "fp16", "fp8", "mxfp4"] = ""
    """Format that the weights are stored in; empty means as the model's files say, else bf16."""
    published_parameters: int = Field(default=0, ge=0)
    """Number of parameters that the model's makers state, to check `architecture` against; 0 for none."""


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
    """Model that the job starts from."""
    dataset: Dataset
    """Rows to train on and to judge with."""
    method: Method
    """How the model is trained."""
    adapter: Adapter
    """What is trained: all weights, or additions to them."""
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
    """Experts by name."""
    fallback: str = "general"
    """Expert that answers when the chosen one is down or unknown."""


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


class Hardware(Strict):
    """The machine that the stages run on; rates and price are those of one GPU, or of the CPU for `cpu`.

    In `auto`, a GPU that one of the profiles under `conf/hardware/` names brings the profile's figures.
    """

    name: str
    """Name of the choice under `conf/hardware/`; `auto` reads this machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to compute on; `auto` is the GPU where there is one."""
    gpu: str = ""
    """GPU as the vendor names it."""
    gpu_names: list[str] = []
    """Names that the driver gives to this GPU; how `auto` recognises it."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs to use; 0 means as found."""
    memory_gib: float = Field(default=0, ge=0)
    """Memory of one GPU, or of the machine for `cpu`; 0 means as found."""
    usable_memory_gib: float = Field(default=0, ge=0)
    """What processes can allocate of it, as torch reports the total; 0 means as found."""
    cores: int = Field(default=0, ge=0)
    """CPU cores to use; 0 means as found."""
    fp32_tflops: float = Field(default=0, ge=0)
    """Peak rate in fp32; 0 means unknown, and for a CPU worked out from its cores."""
    bf16_tflops: float = Field(default=0, ge=0)
    """Peak dense rate in bf16 with fp32 accumulation; 0 means unknown or not there."""
    fp8_tflops: float = Field(default=0, ge=0)
    """Peak dense rate in fp8 with fp32 accumulation; 0 means unknown or not there."""
    bandwidth_gb_per_s: float = Field(default=0, ge=0)
    """Memory bandwidth in 10^9 bytes a second; 0 means unknown."""
    link_gb_per_s: float = Field(default=0, ge=0)
    """Bandwidth to another GPU of the machine, one direction, in 10^9 bytes a second; 0 means unknown."""
    power_watts: float = Field(default=0, ge=0)
    """Power limit; 0 means unknown."""
    price_per_hour: float = Field(default=0, ge=0)
    """US dollars for an hour of one GPU, or of the machine for `cpu`; 0 means that no costs are shown."""


class Environment(Strict):
    """The interpreter that stages run in."""

    name: str = "current"
    """Name of the choice under `conf/environment/`."""
    python: str = ""
    """Path of an interpreter with LargeForge installed; empty means the runner's own."""


class Registry(Strict):
    """Where registered models live (MLflow)."""

    name: str = "local"
    """Name of the choice under `conf/registry/`."""
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
    """Machines by name."""


class Runs(Strict):
    """Where runs are written, and whether one continues."""

    root: str = "runs"
    """Folder of all runs, relative to the working directory."""
    resume: bool = True
    """Continue the newest unfinished run of the same recipe and reuse finished stages."""


class Sweep(Strict):
    """How `-m` searches over values; a run without it takes no notice of this section."""

    name: Literal["grid", "optuna"] = "grid"
    """`grid` runs every combination; `optuna` chooses `n_trials` of them, from intervals too."""
    objective: str = ""
    """Metric that ranks the trials: `exact_match`, `vs_base.loss`, `train.loss`, or `<job>.<metric>` where there
    are several jobs; empty means that of the job's first gate, else its first evaluation's, else `train.loss`."""
    direction: Literal["auto", "minimize", "maximize"] = "auto"
    """Which values of the objective are better; `auto` minimizes losses and times and maximizes the rest."""
    jobs: int = Field(default=0, ge=0)
    """Trials at a time; 0 means as many as the hardware allows."""
    n_trials: int = Field(default=20, gt=0)
    """Trials in all, those of earlier invocations included (`optuna`)."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Optuna's sampler; `tpe` learns from the trials before, after ten random ones."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the sampler; the trials' own seed is the recipe's `seed`."""
    params: dict[str, str | list[str | int | float]] = {}
    """Key to what `-m` gives it: a list of values, or for example `tag(log, interval(1e-4, 1e-2))`; the words of
    the command line come first."""
    trial: bool = False
    """Set by a sweep for each of its trials: nothing is registered or served."""


class Recipe(Strict):
    """A whole recipe after composition.

    One training job stands at the top level (`model`, `dataset`, `method`, ...); several stand
    under `jobs`. `training_jobs` gives both in one form.
    """

    name: Name
    """Name of the recipe: its folder under `runs/`."""
    description: str = ""
    """What it is for, in a few words."""
    mode: Literal["run", "plan"] = "run"
    """`plan` prints what would be done and stops."""
    memory_check: Literal["refuse", "warn"] = "refuse"
    """What happens to a plan with a stage that would not fit into memory: `refuse` ends with exit code 2 before
    anything starts, `warn` shows it and goes on."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Seed of everything random."""
    model: Model | None = None
    """As in a job: the model to start from."""
    dataset: Dataset | None = None
    """As in a job: rows to train on and to judge with."""
    method: Method | None = None
    """As in a job: how the model is trained."""
    adapter: Adapter | None = None
    """As in a job: what is trained; without one, all weights."""
    evaluation: dict[str, Evaluator] = {}
    """As in a job: evaluators by name."""
    gates: Gates = {}
    """As in a job: metric to condition."""
    merge: bool = False
    """As in a job: whether the adapter is merged into the base after the gates."""
    register_as: RegistryName = ""
    """As in a job: name in the model registry; empty means that it is not registered."""
    register_alias: RegistryAlias = "champion"
    """As in a job: alias that points to the new version."""
    jobs: dict[Name, Job] = {}
    """Training jobs by name."""
    models: dict[str, Model] = {}
    """Models that experts name."""
    topology: Topology | None = None
    """Experts to serve; none means that nothing is served."""
    router: Router | None = None
    """How the expert for a request is chosen."""
    serving: Serving = Serving()
    """How vLLM is started."""
    gateway: Gateway = Gateway()
    """The one address that clients talk to."""
    verify: Verify = Verify()
    """Questions asked after serving has started."""
    serve: bool = False
    """Keep serving in the foreground until interrupted."""
    hardware: Hardware
    """The machine that the stages run on."""
    hosts: Hosts
    """The machines that a recipe may use."""
    launcher: Launcher
    """How training processes are started."""
    environment: Environment = Environment()
    """The interpreter that stages run in."""
    registry: Registry = Registry()
    """Where registered models live."""
    runs: Runs = Runs()
    """Where runs are written, and whether one continues."""
    sweep: Sweep = Sweep()
    """How `-m` searches over values."""

    @property
    def training_jobs(self) -> dict[str, Job]:
        """All training jobs by name; the one at the top level is called `main`."""
        if self.model is None or self.dataset is None or self.method is None:
            return dict(self.jobs)
        fields = {key: getattr(self, key) for key in Job.model_fields}
        if fields["adapter"] is None:
            fields["adapter"] = extensions.load("adapter", "none").Config()
        return {"main": Job.model_construct(**fields)}
