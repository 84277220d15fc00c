"""What a recipe may say. Every section is a model here or the `Config` of an extension module.

Relations between sections (an expert that names an unknown model, a gate on a metric that
nothing computes) are checked in `checks.py`, so that all of a recipe's errors come at once.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from largeforge.recipe import extensions
from largeforge.recipe.base import Name, RegistryAlias, Strict
from largeforge.recipe.sections.autoscaling import Autoscaling
from largeforge.recipe.sections.choices import (
    Adapter,
    Evaluator,
    Exporter,
    Launcher,
    Method,
    Quantization,
    Router,
    Tracker,
)
from largeforge.recipe.sections.datasets import Dataset, Source
from largeforge.recipe.sections.deploying import Deploy
from largeforge.recipe.sections.hosts import Host, Hosts
from largeforge.recipe.sections.jobs import Gates, Job, RegistryName
from largeforge.recipe.sections.judging import Baseline, Judging, Parity
from largeforge.recipe.sections.load_test import Goodput, LoadTest
from largeforge.recipe.sections.machines import Environment, Hardware, Registry, Runs
from largeforge.recipe.sections.models import Architecture, Model, TokenizerTraining, VisionArchitecture
from largeforge.recipe.sections.monitoring import Monitoring
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.recipe.sections.routing import Flag, Routing, Shadow
from largeforge.recipe.sections.serving import Expert, Gateway, Question, Serving, Targets, Topology, Verify
from largeforge.recipe.sections.slos import Slo
from largeforge.recipe.sections.sweeps import Sweep

__all__ = [
    "Adapter",
    "Architecture",
    "Autoscaling",
    "Baseline",
    "Dataset",
    "Deploy",
    "Environment",
    "Evaluator",
    "Expert",
    "Exporter",
    "Flag",
    "Gates",
    "Gateway",
    "Goodput",
    "Hardware",
    "Host",
    "Hosts",
    "Job",
    "Judging",
    "Launcher",
    "LoadTest",
    "Method",
    "Model",
    "Monitoring",
    "Parity",
    "Quantization",
    "Question",
    "Recipe",
    "Registry",
    "Rollout",
    "Router",
    "Routing",
    "Runs",
    "Serving",
    "Shadow",
    "Slo",
    "Source",
    "Sweep",
    "Targets",
    "TokenizerTraining",
    "Topology",
    "Tracker",
    "Verify",
    "VisionArchitecture",
]


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
    judging: Judging = Judging()
    """As in a job: beside which others the model is judged, how surely, with which engine."""
    gates: Gates = {}
    """As in a job: metric to condition."""
    parity: Parity = Parity()
    """As in a job: comparison of what would be served with what was trained."""
    merge: bool = False
    """As in a job: whether the adapter is merged into the base after the gates."""
    quantization: Quantization | None = None
    """As in a job: how the whole model is quantized before it is registered; null keeps it as it is."""
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
    routing: Routing = Routing()
    """What routers are trained on, and what routing must show before anything is served."""
    serving: Serving = Serving()
    """How vLLM is started."""
    gateway: Gateway = Gateway()
    """The one address that clients talk to."""
    verify: Verify = Verify()
    """Questions asked after serving has started."""
    load_test: LoadTest | None = None
    """Load that what is served must bear, after the questions; null asks for none."""
    slo: Slo = Slo()
    """What the deployment promises: alerts, panels, gates and limits follow from it."""
    monitoring: Monitoring = Monitoring()
    """What watches the deployment, on its hosts, and who is told."""
    autoscaling: Autoscaling = Autoscaling()
    """How many replicas of experts run."""
    serve: bool = False
    """Keep serving in the foreground until interrupted."""
    hardware: Hardware
    """The machine that the stages run on."""
    hosts: Hosts
    """The machines that a recipe may use."""
    deploy: Deploy = Deploy()
    """How servers are put on the hosts of an inventory."""
    rollout: Rollout = Rollout(strategy="immediate")
    """How a new model of an expert takes over from the one that serves there."""
    launcher: Launcher
    """How training processes are started."""
    environment: Environment = Environment()
    """The interpreter that stages run in."""
    registry: Registry = Registry()
    """Where registered models live."""
    runs: Runs = Runs()
    """Where runs are written, and whether one continues."""
    tracking: dict[str, Tracker] = {}
    """Where the run is tracked besides its directory, each tracker under its name."""
    sweep: Sweep = Sweep()
    """How `-m` searches over values."""
    export: Exporter = Field(default_factory=lambda: extensions.load("export", "none").Config())
    """Files that the topology is written as, for others to run, instead of being carried out here."""

    @property
    def served_gateway(self) -> Gateway:
        """The gateway with what it promises; whom alerts are raised for is not its affair."""
        promised = self.slo.model_copy(update={"burn_rates": (), "alerts": {}})
        return self.gateway.model_copy(update={"slo": promised})

    @property
    def training_jobs(self) -> dict[str, Job]:
        """All training jobs by name; the one at the top level is called `main`."""
        if self.model is None or self.dataset is None or self.method is None:
            return dict(self.jobs)
        fields = {key: getattr(self, key) for key in Job.model_fields}
        if fields["adapter"] is None:
            fields["adapter"] = extensions.load("adapter", "none").Config()
        return {"main": Job.model_construct(**fields)}
