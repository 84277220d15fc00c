"""Turn a recipe into a plan: the stages, what each reads and makes, and their identity.

Pure but for hashing the data files. A stage's `config` is all that its process is given, and
its fingerprint covers just that, the fingerprints of its inputs and the package versions: two
stages with one fingerprint make the same artifact.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import largeforge
from largeforge import identity
from largeforge.artifacts import digest, file_sha256
from largeforge.environments.spec import named
from largeforge.errors import RecipeError
from largeforge.forecast import batches
from largeforge.hardware import machine
from largeforge.plan import Plan, Stage
from largeforge.recipe import (
    data_paths,
    evaluator_files,
    extensions,
    further_models,
    launching,
    method_checks,
    model_ref,
    profiles,
    quantization_checks,
)
from largeforge.recipe.lock import dataset_hashes, lock, portable
from largeforge.recipe.quantization import Quantizer, is_quantized, settings_of

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.further_models import Named
    from largeforge.recipe.schema import Job, Recipe


_NOT_IN_RESULT = {"judged"}
"""Keys of a stage's config that decide whether it is content, and not what it makes."""


def make_plan(recipe: Recipe, *, recipe_folder: str = "", packs: dict[str, Any] | None = None) -> Plan:
    """Return the plan of a validated recipe; `packs` are those that it was composed from, for the lock."""
    known = profiles.completed(recipe.hardware)
    found, hashes = machine(known), dataset_hashes(recipe)
    if problems := quantization_checks.unservable(recipe, found, known.compute_capability):
        raise RecipeError(problems)
    recipe = batches.divided(recipe, found)
    fixed, floating = identity.of_models(recipe)
    locked = lock(
        recipe, found, recipe_folder=recipe_folder, hashes=hashes, models=fixed, resolved=floating, packs=packs
    )
    recipe_digest, depths = digest(locked["recipe"]), _depths(recipe)
    stages: list[Stage] = []
    for name, depth in depths.items():
        beside = list(depths.values()).count(depth)
        job = _Job(name, recipe, found, recipe_digest=recipe_digest, recipe_folder=recipe_folder, beside=beside)
        job.hashes = hashes
        stages += job.stages()
    if recipe.topology is not None and not recipe.sweep.trial:
        stages.append(_serve(recipe, found, stages))
    contents = {reference: model["sha256"] for reference, model in fixed.items()}
    pinned = dict(line.split("==") for line in recipe.environment.requirements)
    packages = {**locked["packages"], **pinned}
    return Plan(recipe, _fingerprinted(stages, hashes, contents, packages), locked, found)


def _depths(recipe: Recipe) -> dict[str, int]:
    """Return, for each job, how many jobs it builds on at most one after the other; it stands after all of them."""
    parents = {name: further_models.parents(job) for name, job in recipe.training_jobs.items()}
    depths: dict[str, int] = {}
    for first in parents:
        chain = [first]
        while chain:
            waiting = [parent for parent in parents[chain[-1]] if parent not in depths]
            if waiting:
                chain.append(waiting[0])
            else:
                name = chain.pop()
                depths[name] = 1 + max((depths[parent] for parent in parents[name]), default=-1)
    return depths


class _Job:
    """The stages of one training job."""

    hashes: dict[str, str]
    """What identifies the content of each path that the recipe names."""

    def __init__(
        self, name: str, recipe: Recipe, found: Machine, *, recipe_digest: str, recipe_folder: str, beside: int
    ):
        self.name, self.recipe, self.machine = name, recipe, found
        self.recipe_digest = recipe_digest
        self.threads = max(1, found.cores // beside)  # shared with the jobs that can train side by side
        self.job: Job = recipe.training_jobs[name]
        self.ref = model_ref.parse(self.job.model.ref)
        self.base = self._base()
        self.shown_path = ", ".join(portable(self.job.dataset.titles, recipe_folder))

    def stages(self) -> list[Stage]:
        stages = [self._prepare()]
        if self.ref.scheme == "tiny":
            stages.append(self._init())
        stages.append(self._train())
        if self.job.evaluation:
            stages.append(self._evaluate())
        if self.job.gates:
            stages.append(self._gate())
        if self.job.merge:
            stages.append(self._merge())
        if self._is_quantized:
            stages.append(self._quantize())
        if self._compares:
            stages.append(self._parity())
        if self.job.register_as and not self.recipe.sweep.trial:
            stages.append(self._register())
        return stages

    def _stage(self, kind: str) -> str:
        return stage_name(self.recipe, self.name, kind)

    def _base(self) -> dict[str, str]:
        """Return the input that holds the starting model; empty when a reference finds it."""
        if self.ref.scheme == "tiny":
            return {"base": self._stage("init")}
        if self.ref.scheme == "job":
            return {"base": stage_name(self.recipe, self.ref.target, self.ref.selector or "train")}
        return {}

    def _made_here(self, named: list[Named]) -> dict[str, str]:
        """Return the inputs that hold further models which other jobs make."""
        refs = {one.reference: model_ref.parse(one.reference) for one in named if one.reference.startswith("job:")}
        return {text: stage_name(self.recipe, ref.target, ref.selector or "train") for text, ref in refs.items()}

    def _is_fixed(self, named: list[Named]) -> bool:
        """Whether all models are known before the run; an alias of the registry may move."""
        return not any(text.startswith("registry:") for text in (self.job.model.ref, *_outside(named)))

    @property
    def _reference(self) -> str:
        return "" if self.base else self.job.model.ref

    @property
    def _template(self) -> dict[str, str]:
        """Return the chat template that the recipe gives, for stages that write out conversations."""
        return {"chat_template": self.job.model.chat_template} if self.job.model.chat_template else {}

    @property
    def _contenders(self) -> list[str]:
        return ["model", *(["base"] if self.job.judging.base else []), *self.job.judging.baselines]

    @property
    def _judged(self) -> str:
        return self._stage("gate" if self.job.gates else "evaluate")

    def _prepare(self) -> Stage:
        method = extensions.load("method", self.job.method.name)
        return Stage(
            name=self._stage("prepare"), kind="prepare", job=self.name, title="check and split the data",
            config={
                "dataset": self.job.dataset.model_dump(), "kind": method.DATA_KIND, "judged": bool(self.job.evaluation),
            },
            uses=self.shown_path, produces="train and held-out rows",
        )  # fmt: skip

    def _init(self) -> Stage:
        assert self.job.model.architecture is not None and self.job.model.tokenizer is not None
        config = {
            "architecture": self.job.model.architecture.model_dump(),
            "tokenizer": self.job.model.tokenizer.model_dump(),
            "seed": self.recipe.seed,
            **self._template,
        }
        return Stage(
            name=self._stage("init"), kind="init", job=self.name, title="make a tokenizer and random weights",
            config=config, inputs={"data": self._stage("prepare")}, threads=1, uses="train rows",
            produces="untrained model",
        )  # fmt: skip

    def _train(self) -> Stage:
        job = self.job
        given = self.recipe.launcher
        launcher, place = extensions.load("launcher", given.name), launching.place(self.recipe, self.machine)
        world_size = launcher.world_size(given, place)
        config = {
            "reference": self._reference, "registry": self.recipe.registry.model_dump(),
            "method": job.method.model_dump(), "adapter": job.adapter.model_dump(), "seed": self.recipe.seed,
            "device": self.machine.device, "launcher": launcher.strategy(given).model_dump(),
            "world_size": world_size, **self._template,
        }  # fmt: skip
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        device = threads if self.machine.device == "cpu" else self.machine.gpu
        epochs, most = job.method.num_train_epochs, job.method.max_steps
        further = further_models.of_training(job)
        steps = f"{most} step{'s' if most > 1 else ''}" if most > 0 else f"{epochs:g} epoch{'s' if epochs != 1 else ''}"
        return Stage(
            name=self._stage("train"), kind="train", job=self.name, config=config, threads=self.threads,
            title=f"{job.method.name} of {job.model.name or job.model.ref}",
            inputs={"data": self._stage("prepare"), **self.base, **self._made_here(further)},
            launcher=given.model_dump(),
            uses=f"{steps} × {_batch(job, world_size)}, {f'{world_size} × ' if world_size > 1 else ''}{device}",
            produces="model" if job.adapter.name == "none" else f"{job.adapter.name} adapter",
            models=_outside(further), reusable=self._is_fixed(further),
        )  # fmt: skip

    def _evaluate(self) -> Stage:
        config = {
            "reference": self._reference, "registry": self.recipe.registry.model_dump(),
            "evaluation": {name: evaluator.model_dump() for name, evaluator in self.job.evaluation.items()},
            "judging": self.job.judging.model_dump(exclude={"gates"}),
            "adapter": self.job.adapter.model_dump(), "device": self.machine.device, **self._template,
        }  # fmt: skip
        engine = self.job.judging.engine
        if engine == "vllm" or (engine == "auto" and self.machine.device == "cuda"):
            config["serving"] = self.recipe.serving.model_dump()
        written = {name: Path(one.answers) for name, one in self.job.judging.baselines.items() if one.answers}
        if written:
            config["written"] = {name: file_sha256(path) if path.is_file() else "" for name, path in written.items()}
        if own := {path: self.hashes.get(path, "") for path in evaluator_files.of_job(self.job)}:
            config["own_rows"] = own
        further = further_models.of_evaluation(self.job)
        inputs = {"data": self._stage("prepare"), "model": self._stage("train"), **self.base}
        inputs |= self._made_here(further)
        return Stage(
            name=self._stage("evaluate"), kind="evaluate", job=self.name, title="judge on held-out rows",
            config=config, inputs=inputs, threads=max(1, self.machine.cores // len(self.recipe.training_jobs)),
            uses=f"held-out rows, {_listed(self._contenders)}", produces=", ".join(self.job.evaluation),
            models=_outside(further), reusable=self._is_fixed(further),
        )  # fmt: skip

    def _gate(self) -> Stage:
        gates = ", ".join(f"{metric} {condition}" for metric, condition in self.job.gates.items())
        return Stage(
            name=self._stage("gate"), kind="gate", job=self.name, title="refuse a bad model",
            config={"gates": dict(self.job.gates), "by": self.job.judging.gates},
            inputs={"evaluation": self._stage("evaluate")}, uses=gates, produces="go or no go",
        )  # fmt: skip

    def _merge(self) -> Stage:
        after = (self._judged,) if self.job.evaluation else ()
        return Stage(
            name=self._stage("merge"), kind="merge", job=self.name, title="merge the adapter into its base",
            config={"reference": self._reference, "registry": self.recipe.registry.model_dump()},
            inputs={"adapter": self._stage("train"), **self.base}, after=after, threads=1, uses="adapter and base",
            produces="merged model", reusable=self.ref.scheme != "registry",
        )  # fmt: skip

    @property
    def _is_quantized(self) -> bool:
        return is_quantized(self.job) and not self.recipe.sweep.trial

    def _quantize(self) -> Stage:
        given, recipe = self.job.quantization, self.recipe
        assert isinstance(given, Quantizer)
        choices = settings_of(given)
        needed = dict.fromkeys(extensions.load("quantization", choice["name"]).ENVIRONMENT for choice in choices)
        config = {
            "choices": choices, "environments": {name: list(named(name).requirements) for name in needed if name},
            "calibration_rows": given.calibration_rows, "calibration_length": given.calibration_length,
            "acceptance": given.acceptance.model_dump(), "serving": recipe.serving.model_dump(),
            "device": self.machine.device, "machine": self.machine.gpu or "CPU", "seed": recipe.seed, **self._template,
        }  # fmt: skip
        names = [choice["name"] for choice in choices]
        return Stage(
            name=self._stage("quantize"), kind="quantize", job=self.name, title="quantize if it proves worth it",
            config=config, inputs={"model": self._stage("merge" if self.job.merge else "train"),
                                   "data": self._stage("prepare")},
            after=(self._judged,) if self.job.evaluation else (), threads=self.machine.cores,
            uses=f"whole model, train and held-out rows, vLLM; tries {', then '.join(names)}",
            produces="quantized model",
        )  # fmt: skip

    @property
    def _made(self) -> str:
        """The kind of stage whose model is registered."""
        return "quantize" if self._is_quantized else "merge" if self.job.merge else "train"

    @property
    def _compares(self) -> bool:
        check = self.job.parity.check
        if check != "auto" or self.recipe.sweep.trial:
            return check == "always" and not self.recipe.sweep.trial
        answers = extensions.load("method", self.job.method.name).DATA_KIND != "text" and not self._scores
        served_here = self.machine.device == "cuda" or self._is_quantized
        return bool(self.job.register_as) and answers and served_here

    @property
    def _scores(self) -> bool:
        return method_checks.scores("method", self.job.method.name)

    def _parity(self) -> Stage:
        job, recipe = self.job, self.recipe
        least, most = (">= 0.5", "<= 0.5") if self._is_quantized else (">= 0.9", "<= 0.1")
        config = {
            "reference": self._reference, "registry": recipe.registry.model_dump(), "adapter": job.adapter.model_dump(),
            "parity": job.parity.model_dump(), "same_answers": job.parity.same_answers or least,
            "logprob_difference": job.parity.logprob_difference or most, "device": self.machine.device,
            "serving": recipe.serving.model_dump(), **self._template,
        }  # fmt: skip
        inputs = {
            "data": self._stage("prepare"), "trained": self._stage("train"), "model": self._stage(self._made),
            **self.base,
        }  # fmt: skip
        return Stage(
            name=self._stage("parity"), kind="parity", job=self.name, title="serve it as it was trained", config=config,
            inputs=inputs, after=(self._judged,) if job.evaluation else (), threads=self.machine.cores,
            uses=f"{job.parity.prompts} prompts, trained model, vLLM", produces="go or no go",
            reusable=self._is_fixed([]),
        )  # fmt: skip

    def _register(self) -> Stage:
        job, recipe = self.job, self.recipe
        config = {
            "name": job.register_as, "alias": job.register_alias, "registry": recipe.registry.model_dump(),
            "recipe": recipe.name, "recipe_digest": self.recipe_digest,
            "parent": "" if self.ref.scheme == "tiny" else job.model.ref,
        }  # fmt: skip
        inputs = {"model": self._stage(self._made), "data": self._stage("prepare")}
        if self._compares:
            inputs["parity"] = self._stage("parity")
        if job.evaluation:
            inputs["evaluation"] = self._judged
        if self.ref.scheme == "job" and recipe.training_jobs[self.ref.target].register_as:
            inputs["parent"] = stage_name(recipe, self.ref.target, "register")
        return Stage(
            name=self._stage("register"), kind="register", job=self.name, title="enter the model in the registry",
            config=config, inputs=inputs, threads=1, uses=recipe.registry.uri, reusable=False,
            produces=f"registry:{job.register_as}@{job.register_alias}",
        )  # fmt: skip


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _outside(named: list[Named]) -> tuple[str, ...]:
    """Return the references that no job of the recipe makes, each once."""
    return tuple(dict.fromkeys(one.reference for one in named if one.reference and one.reference[:4] != "job:"))


def stage_name(recipe: Recipe, job: str, kind: str) -> str:
    """Return the name of a job's stage: `train`, or `mapper.train` where there are several jobs."""
    return f"{job}.{kind}" if recipe.jobs else kind


def _batch(job: Job, world_size: int) -> str:
    """Return how many rows an optimizer step sees, and how they come together."""
    rows, accumulated = job.method.per_device_train_batch_size, job.method.gradient_accumulation_steps
    whole = rows * accumulated * world_size
    parts = [str(rows), *([f"{accumulated} accumulated"] if accumulated > 1 else [])]
    parts += [f"{world_size} processes"] if world_size > 1 else []
    made = f" ({' × '.join(parts)})" if len(parts) > 1 else ""
    return f"{whole} row{'s' if whole > 1 else ''}{made}"


def _serve(recipe: Recipe, found: Machine, before: list[Stage]) -> Stage:
    assert recipe.topology is not None and recipe.router is not None
    inputs: dict[str, str] = {}
    registered = {job.register_as: name for name, job in recipe.training_jobs.items() if job.register_as}
    after = [stage.name for stage in before if stage.kind in ("gate", "merge", "quantize", "parity", "register")]
    for expert in recipe.topology.experts.values():
        text = expert.model if ":" in expert.model else recipe.models[expert.model].ref
        ref = model_ref.parse(text)
        if ref.scheme == "job":
            inputs[text] = stage_name(recipe, ref.target, ref.selector or "train")
        elif ref.scheme == "registry" and ref.target in registered:
            after.append(stage_name(recipe, registered[ref.target], "register"))
    config = {
        "topology": recipe.topology.model_dump(),
        "models": {name: model.model_dump() for name, model in recipe.models.items()},
        "router": recipe.router.model_dump(), "serving": recipe.serving.model_dump(),
        "gateway": recipe.gateway.model_dump(), "verify": recipe.verify.model_dump(),
        "registry": recipe.registry.model_dump(), "device": found.device, "hold": recipe.serve,
    }  # fmt: skip
    experts = ", ".join(recipe.topology.experts)
    return Stage(
        name="serve", kind="serve", job="", config=config, inputs=inputs, after=tuple(dict.fromkeys(after)),
        title="serve until interrupted" if recipe.serve else "serve, ask every question, stop",
        threads=found.cores, reusable=False, uses=f"vLLM and gateway for {experts}",
        produces=f"http://{recipe.gateway.host}:{recipe.gateway.port or 'any'}/v1" if recipe.serve else "answers",
    )  # fmt: skip


def _fingerprinted(
    stages: list[Stage], hashes: dict[str, str], models: dict[str, str], packages: dict[str, str]
) -> tuple[Stage, ...]:
    """Return the stages with their fingerprints, each built on those of its inputs; both dicts hold sha256."""
    done: dict[str, Stage] = {}
    for stage in stages:
        covered: dict[str, Any] = {
            "largeforge": largeforge.__version__,
            "kind": stage.kind,
            "config": {key: value for key, value in stage.config.items() if key not in _NOT_IN_RESULT},
            "threads": stage.threads,
            "inputs": {name: done[source].fingerprint for name, source in stage.inputs.items()},
        }
        if stage.kind == "prepare":
            covered["data"] = [hashes.get(path, "") for path in data_paths.named(stage.config["dataset"]).values()]
        else:
            covered["packages"] = packages
        if stage.config.get("reference") in models:
            covered["model"] = models[stage.config["reference"]]
        if further := {reference: models[reference] for reference in stage.models if reference in models}:
            covered["models"] = further
        done[stage.name] = Stage(**{**_fields(stage), "fingerprint": digest(covered)})
    return tuple(done.values())


def _fields(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in Stage.__dataclass_fields__}
