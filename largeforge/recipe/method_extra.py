"""Check `method.extra`: fields of trl's own config that LargeForge has no name for and leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import Problem, nearest
from largeforge.recipe import extensions, trl_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from largeforge.recipe.base import Extension
    from largeforge.recipe.trl_fields import TrlField

_RUN = "LargeForge keeps a run's files in its own folder"
_GOES_ON = "a training that was stopped would no longer go on exactly as it was"
_TRACKING = "set tracking= instead"
_LAUNCHER = "set launcher= instead"
_PRECISION = "set method.precision instead"
_UPLOAD = "nothing is uploaded, and secrets have no place in a recipe"
_MODEL = "set model= instead"
_TEMPLATE = "the chat template and special tokens are those of the model"
_DATA = "set dataset= instead"
_REPORTS = "LargeForge reports progress itself; set method.logging_steps"
_LONG = "nothing is cut: a row longer than method.max_length is an error"
_TEACHER = "set method.teacher instead"

OWNED: dict[str, str] = {
    **dict.fromkeys(("output_dir", "do_train", "do_eval", "do_predict"), _RUN),
    **dict.fromkeys(
        ("resume_from_checkpoint", "save_strategy", "save_only_model", "save_on_each_node", "ignore_data_skip",
         "restore_callback_states_from_checkpoint", "enable_jit_checkpoint", "auto_find_batch_size"), _GOES_ON,
    ),
    **dict.fromkeys(
        ("report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
         "log_completions_hub_repo"), _TRACKING,
    ),
    **dict.fromkeys(
        ("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push",
         "hub_revision"), _UPLOAD,
    ),
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed", "parallelism_config", "accelerator_config", "local_rank",
         "ddp_backend"), _LAUNCHER,
    ),
    **dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"), _PRECISION),
    **dict.fromkeys(("seed", "data_seed"), "set seed at the top of the recipe instead"),
    "use_cpu": "it follows from hardware=",
    **dict.fromkeys(("eval_strategy", "eval_delay"), "set method.eval_steps instead"),
    **dict.fromkeys(("model_init_kwargs", "trust_remote_code", "is_encoder_decoder"), _MODEL),
    **dict.fromkeys(("chat_template_path", "eos_token", "pad_token", "padding_value"), _TEMPLATE),
    **dict.fromkeys(
        ("dataset_text_field", "dataset_kwargs", "remove_unused_columns", "label_names", "length_column_name"), _DATA,
    ),
    **dict.fromkeys(
        ("logging_strategy", "logging_first_step", "logging_nan_inf_filter", "disable_tqdm", "log_level",
         "log_level_replica", "log_on_each_node", "include_num_input_tokens_seen"), _REPORTS,
    ),
    "truncation_mode": _LONG,
    **dict.fromkeys(
        ("teacher_model_name_or_path", "teacher_model_revision", "teacher_model_init_kwargs"), _TEACHER,
    ),
}  # fmt: skip
"""Fields that LargeForge sets, or that would undo what it promises, and what to do instead."""


def check(method: Extension, extra: dict[str, object]) -> Iterator[Problem]:
    """Yield what is wrong with the extra fields of a method, with keys below `method`; nothing without trl."""
    config = trl_config(method)
    known = trl_fields.fields(config) if config and extra else None
    if known is None:
        return
    own = type(method).model_fields
    for name, value in extra.items():
        problem = _problem(name, value, known, own=own, title=config.partition(":")[2])
        if problem is not None:
            yield problem


def trl_config(method: Extension) -> str:
    """Return trl's config class of a method as `module:Class`; several trainers are told apart by `algorithm`."""
    found: str | dict[str, str] = getattr(extensions.load("method", method.name), "TRL_CONFIG", "")
    return found if isinstance(found, str) else found[str(getattr(method, "algorithm", ""))]


def is_unchecked(method: Extension, extra: dict[str, object]) -> bool:
    """Tell whether there are fields that cannot be checked on this machine, because trl is not installed."""
    config = trl_config(method)
    return bool(extra and config) and trl_fields.fields(config) is None


def _problem(name: str, value: object, known: dict[str, TrlField], *, own: Iterable[str], title: str) -> Problem | None:
    key = f"extra.{name}"
    if name in own:
        return Problem(key, f"set method.{name} instead.")
    if name in OWNED:
        return Problem(key, f"not to be set here: {OWNED[name]}.")
    if name not in known:
        allowed = sorted(field for field in known if field not in OWNED)
        return Problem(key, f"trl's {title} has no such field.", nearest=nearest(name, allowed))
    field = known[name]
    if not field.accepts(value):
        return Problem(key, f"must be {field.described}, as in trl's {title}.", given=repr(value))
    if field.choices and value not in field.choices:
        close = nearest(value, field.choices) if isinstance(value, str) else ""
        rule = f"must be one of {', '.join(field.choices)}, as in trl's {title}."
        return Problem(key, rule, given=repr(value), nearest=close)
    return None
