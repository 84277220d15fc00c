"""What a pack may say. Everything that is not listed here is refused, also what will be added later.

A pack describes models, data, training and serving. Which program runs, where files are written, which
machines take part and what is reachable from outside is for the command line and for one's own files:
a pack can neither set such keys, nor choose in their groups, nor copy their values with `${…}`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from largeforge.errors import Problem, nearest
from largeforge.recipe.packs import installed
from largeforge.recipe.places import short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from largeforge.recipe.places import Source
    from largeforge.recipe.vetting import Vetted

_JOB = (
    "model.**", "dataset.**", "method.*.**", "adapter.**", "evaluation.**", "judging.base",
    "judging.engine", "judging.confidence", "judging.gates", "judging.worst", "judging.baselines.*.model", "gates.**",
    "parity.**", "merge", "quantization.**", "register_as", "register_alias",
)  # fmt: skip
_SERVING = (
    "name", "dtype", "max_model_len", "max_num_seqs", "gpu_memory_utilization", "tensor_parallel_size",
    "enable_prefix_caching", "enforce_eager", "max_lora_rank", "cpu_kvcache_gib", "startup_timeout_s", "targets.**",
)  # fmt: skip
VLLM_OPTIONS = (
    "async-scheduling", "block-size", "calculate-kv-scales", "cpu-offload-gb", "disable-log-requests",
    "enable-auto-tool-choice", "enable-chunked-prefill", "enable-expert-parallel", "kv-cache-dtype", "max-logprobs",
    "max-num-batched-tokens", "pipeline-parallel-size", "quantization", "reasoning-parser", "seed", "swap-space",
    "tool-call-parser",
)  # fmt: skip
"""Options under `serving.extra` that a pack may set: none of them names a file, code, or an address."""

TRL_FIELDS = (
    "activation_offloading", "adam_beta1", "adam_beta2", "adam_epsilon", "average_tokens_across_devices",
    "cast_lm_head_to_fp32", "dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory",
    "dataloader_prefetch_factor", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters",
    "ddp_static_graph", "delta", "disable_dropout", "discopop_tau", "entropy_coef", "epsilon", "epsilon_high",
    "eval_accumulation_steps", "eval_on_start", "eval_packing", "f_alpha_divergence_coef", "f_divergence_type",
    "full_determinism", "generation_batch_size", "importance_sampling_level", "label_smoothing_factor", "ld_alpha",
    "lr_scheduler_kwargs", "mask_truncated_completions", "max_completion_length", "min_p", "neftune_noise_alpha",
    "num_generations_eval", "num_iterations", "pad_to_multiple_of", "per_device_eval_batch_size",
    "precompute_ref_batch_size", "prediction_loss_only", "ref_model_mixup_alpha", "ref_model_sync_steps",
    "repetition_penalty", "router_aux_loss_coef", "scale_rewards", "steps_per_generation", "sync_ref_model",
    "temperature", "tf32", "top_entropy_quantile", "top_k", "top_p", "torch_empty_cache_steps",
    "train_sampling_strategy", "use_weighting",
)  # fmt: skip
"""Fields under `method.extra` that a pack may set: none names a file, code or an address."""

_LAUNCHER = (
    "reshard_after_forward", "cpu_offload", "state_dict_type", "zero_stage", "offload", "overlap_comm",
    "stage3_max_live_parameters",
)  # fmt: skip
LAUNCHERS = ("single", "ddp", "fsdp2", "deepspeed")
"""Launchers that a pack may choose: those that start processes on this machine and nowhere else."""

ALLOWED = (
    "name", "description", "seed", "serve", *_JOB, *(f"jobs.*.{key}" for key in _JOB), "models.*.**", "topology.**",
    "router.**", "routing.**", "verify.**", "hardware.**", *(f"serving.{key}" for key in _SERVING),
    *(f"serving.extra.{option}" for option in VLLM_OPTIONS), *(f"launcher.{key}" for key in _LAUNCHER),
)  # fmt: skip
"""Keys that a pack may set; `*` is any one word, `**` all that is below."""

GROUPS = (
    "model", "dataset", "method", "adapter", "evaluation", "topology", "router", "serving", "hardware", "recipe",
)  # fmt: skip
"""Groups of LargeForge that a pack may add to, and choose in; it may have groups of its own besides."""
CHOSEN_GROUPS = (*GROUPS, "launcher")
"""Groups that a pack may choose in."""

MAX_PROBLEMS = 50

_ALLOWED = [pattern.split(".") for pattern in ALLOWED]
_REFERENCE = re.compile(r"\$\{(?P<dots>\.*)(?P<key>[\w.-]+)\}")
_FREE_TEXT = re.compile(r"(.*\.)?(description|system|prompt|license|keywords\.\d+)")
_FILE_KEY = re.compile(r"(.*\.)?((\w+_)?path(\.\d+)?|chat_template)|routing\.(heldout_)?path(\.[\w-]+)*")
_MODEL_KEY = re.compile(r"(.*\.)?(\w+_)?ref|topology\.experts\.[^.]+\.model")
_MACHINE_KEY = re.compile(
    r"(.*[._])?(python|command|script|plugin|url|uri|host|address|dir|folder|file|root|api_key|trust_remote_code|env)s?"
)
_HARM_KEY = re.compile(r"allow_execution|endpoint|include_path|require_isolation")
"""What lets an evaluator run code, or send data elsewhere."""
_WORD = re.compile(r"[\w.-]*")
_MACHINE_PATH = re.compile(r"[/~]|\.{1,2}/|.*/\.\./|[A-Za-z][A-Za-z0-9+.-]*://", re.DOTALL)


def check(sources: Iterable[Source]) -> list[Problem]:
    """Return what the files of packs say in a composed recipe that they may not, each with file and line."""
    problems: list[Problem] = []
    for source in dict.fromkeys(sources):
        pack = installed.of_path(source.path)
        if pack is not None:
            section = tuple(source.package.split(".")) if source.package else ()
            problems += _Walk(short(source.path)).problems(pack.vet(source.path).root, section)
        elif (parent := installed.choice_file(source.parent)) and not _leads_somewhere(source.package):
            rule = f"a pack cannot put {short(source.path)} there."
            problems.append(Problem(source.package, rule, short(parent[2])))
        if len(problems) > MAX_PROBLEMS:
            break
    return problems[:MAX_PROBLEMS]


def unsound_defaults(vetted: Vetted, where: str) -> list[Problem]:
    """Return the entries of a pack's defaults list, and its `@package`, that a pack may not have."""
    problems = []
    for choice in vetted.choices:
        if not choice.group.startswith("/"):
            rule = f"a group begins with a slash: `/{choice.group}`."
            problems.append(Problem("defaults", rule, choice.where))
        elif (group := choice.group.lstrip("/")) == "recipe":
            problems.append(Problem("recipe", f"to build on a recipe, write `- {choice.name}`.", choice.where))
        elif not may_choose(group):
            rule = "a pack cannot choose in this group: it is for the command line and for your own recipes."
            problems.append(Problem(group, rule, choice.where, repr(choice.name[:80])))
        elif group == "launcher" and choice.name not in LAUNCHERS:
            rule = f"a pack can only choose {', '.join(LAUNCHERS)}: other launchers are for those who own the machines."
            problems.append(Problem(group, rule, choice.where, repr(choice.name[:80])))
    for name, place in vetted.optional:
        problems.append(Problem("defaults", "a pack's choices are not optional.", place, name))
    if vetted.package and len(vetted.package.split(".")) > 8:
        problems.append(Problem("@package", "has too many parts.", where, repr(vetted.package[:80])))
    return problems


def may_choose(group: str) -> bool:
    """Tell whether a pack may choose in a group: one of those that are listed, or one that LargeForge does not have."""
    return group in CHOSEN_GROUPS or (group not in _ours() and re.fullmatch(r"[a-z][a-z0-9_]*", group) is not None)


def may_add_to(group: str) -> bool:
    """Tell whether a pack may have choices of a group."""
    return group != "launcher" and may_choose(group)


def _ours() -> set[str]:
    from largeforge.recipe import folders

    return {folder.name for folder in (folders.shipped_root() / "conf").iterdir()} | set(folders.GROUP_FOLDERS)


class _Walk:
    """Visits every value of one file under the key where it ends up."""

    def __init__(self, file: str):
        self.file = file
        self.found: list[Problem] = []

    def problems(self, root: Any, section: tuple[str, ...]) -> list[Problem]:
        if isinstance(root, yaml.MappingNode) and root.value:
            self._mapping(root, section, is_root=True)
        return self.found

    def _mapping(self, node: Any, path: tuple[str, ...], *, is_root: bool = False) -> None:
        for key, value in node.value:
            if key.tag.endswith(":merge"):
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(merged, yaml.MappingNode):
                        self._mapping(merged, path)
            elif not (is_root and key.value == "defaults") and len(self.found) <= MAX_PROBLEMS:
                self._value(value, key, (*path, *key.value.split(".")))

    def _value(self, node: Any, key: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode) and (node.value or _in_extra(path)):
            self._mapping(node, path)
            return
        if not _allows(path):
            allowed = {pattern[0] for pattern in _ALLOWED}
            rule = "a pack may not set this; your own recipe or the command line may."
            hint = nearest(path[0][:80], allowed) if path[0] not in allowed else ""
            self._problem(key, path, rule, hint=hint)
        elif isinstance(node, yaml.SequenceNode) and node.value:
            for index, item in enumerate(node.value):
                if isinstance(item, yaml.ScalarNode):
                    self._scalar(item, (*path, str(index)))
                else:
                    self._value(item, item, (*path, str(index)))
        elif isinstance(node, yaml.ScalarNode):
            self._scalar(node, path)

    def _scalar(self, node: Any, path: tuple[str, ...]) -> None:
        if rule := _problem_of(node.value, path):
            shown = node.value if len(node.value) <= 80 else f"{node.value[:77]}..."
            self._problem(node, path, f"{rule}.", given=repr(shown))

    def _problem(self, node: Any, path: tuple[str, ...], rule: str, *, given: str = "", hint: str = "") -> None:
        key = ".".join(path)
        key = key if len(key) <= 120 else f"{key[:117]}..."
        key = key if key.isprintable() else ascii(key)
        self.found.append(Problem(key, rule, f"{self.file}:{node.start_mark.line + 1}", given, hint))


def _problem_of(text: str, path: tuple[str, ...]) -> str:
    """Return why a pack may not give this value to this key, or an empty string."""
    key = ".".join(path)
    reference = _REFERENCE.search(text)
    if reference:
        above = path[: len(path) - len(reference["dots"])] if reference["dots"] else ()
        if not _allows((*above, *reference["key"].split("."))):
            return "a pack may refer only to what a pack may set"
    if _FREE_TEXT.fullmatch(key):
        return ""
    if _HARM_KEY.fullmatch(path[-1]):
        return "a pack cannot have code run or data sent: that is for the command line and your own recipes"
    if (_FILE_KEY.fullmatch(key) or _MODEL_KEY.fullmatch(key)) and reference:
        return "in a pack this is written out, not referred to"
    if _FILE_KEY.fullmatch(key):
        inside = text.removeprefix("recipe:")
        if text in ("", "???"):
            return ""
        if not text.startswith("recipe:") or inside.startswith(("/", "~")) or ".." in inside.split("/"):
            return "a pack's data lies in the pack, as recipe:data/rows.jsonl; other data is named on the command line"
        return ""
    if text.startswith(("path:", "run:")):
        return "a pack cannot name folders of this machine; hub:, registry:, tiny: and job: are allowed"
    if _MACHINE_KEY.fullmatch(path[-1]):
        return "a pack cannot name programs, addresses or files of this machine"
    if path[:2] == ("serving", "extra") and not _WORD.fullmatch(text):
        return "in a pack the value of a vLLM option is one word or number"
    if _in_extra(path) and not _WORD.fullmatch(text):
        return "in a pack the value of a field of trl is one word or number"
    if _MACHINE_PATH.match(text):
        return "a pack cannot name files or addresses"
    return ""


def _in_extra(path: tuple[str, ...] | list[str]) -> bool:
    """Tell whether a key is `method.extra`, of the recipe or of a job, or below it."""
    return tuple(path[:2]) == ("method", "extra") or (path[0] == "jobs" and tuple(path[2:4]) == ("method", "extra"))


def _allows(path: tuple[str, ...] | list[str]) -> bool:
    if _in_extra(path):
        field = path[2:] if path[0] == "method" else path[4:]
        return bool(field) and field[0] in TRL_FIELDS
    return any(_matches(path, pattern) for pattern in _ALLOWED)


def _matches(path: tuple[str, ...] | list[str], pattern: list[str]) -> bool:
    below = pattern[-1] == "**"
    fixed = pattern[:-1] if below else pattern
    if len(path) < len(fixed) or (len(path) > len(fixed) and not below):
        return False
    return all(want in ("*", given) for given, want in zip(path, fixed, strict=False))


def _leads_somewhere(package: str) -> bool:
    """Tell whether a section, or the whole recipe, holds keys that a pack may set."""
    if not package:
        return True
    section = package.split(".")
    heads = [pattern[: len(section)] for pattern in _ALLOWED]
    within = any(len(head) == len(section) and _matches(section, [*head]) for head in heads if head[-1:] != ["**"])
    return within or _allows(section)
