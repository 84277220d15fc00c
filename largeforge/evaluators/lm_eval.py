"""Tasks of EleutherAI's lm-evaluation-harness, asked of the served model: `<task>.<metric>`.

Standard tasks by name, or your own from a folder of YAML files. lm-eval sends what it asks as tokens to the
completions of vLLM, likelihoods too. Scores are taken by row, so that they have intervals and are compared in pairs;
what a task makes of its rows other than a mean (perplexity over words, BLEU of a corpus) is refused. A group of tasks
is one metric over all of their rows.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from largeforge.errors import Problem, StageError, listed, nearest
from largeforge.judging.series import Series
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Endpoint, Subject

DATA_KINDS = ("sft", "prompt", "preference", "unpaired", "text")
METRICS = ()
JUDGES = "server"

_OFFLINE = ("offline", "connect", "couldn't reach", "max retries", "name resolution", "not found on the hub", "proxy")
"""What messages say that come of a data set which is not on this machine."""
_REQUEST_TIMEOUT_S = 600

_Word = Annotated[str, Field(pattern=r"^\w[\w.,-]*$")]


class Config(Extension):
    """Settings of tasks."""

    name: Literal["lm_eval"] = "lm_eval"
    tasks: list[_Word] = []
    """Names of tasks or groups of tasks."""
    metrics: list[_Word] = Field(default=["acc"], min_length=1)
    """What to take of each task, as lm-eval calls it: `acc`, `acc_norm`, `exact_match`, or with the filter
    `exact_match,strict-match`; what a task does not have is left out of it."""
    include_path: str = ""
    """Folder of your own tasks in YAML; relative to the working directory, or to the recipe with `recipe:`. Their
    YAML may name functions, which are run."""
    num_fewshot: int = Field(default=-1, ge=-1)
    """Examples before each question; -1 for what the task says."""
    limit: int = Field(default=0, ge=0)
    """Rows of each task; 0 for all."""
    apply_chat_template: bool = False
    """Whether questions are asked in the model's chat template, instead of as plain text."""
    concurrency: int = Field(default=16, ge=1)
    """Requests in flight at any time."""


def metrics(config: Config) -> tuple[str, ...]:
    """Return the names of what is measured with these settings."""
    return tuple(f"{task}.{metric}" for task in config.tasks for metric in config.metrics)


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    if not config.tasks:
        yield Problem("tasks", "is required: one or more of lm-eval's tasks (`lm-eval ls tasks`), or of your own.")


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return a series of each metric that a task has.

    Raises StageError for a task that there is not, or whose data is not on this machine.
    """
    endpoint = subject.endpoint
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for events
        manager = _manager(config)
        for task in config.tasks:
            _load(manager, task)
        subject.note(f"asks {listed(config.tasks)}")
        results = _evaluate(config, endpoint, manager)
    found = {name: one for task in config.tasks for name, one in series_of(config, task, results).items()}
    subject.note(", ".join(f"{name} {one.figure():.4g} of {len(one.values)} rows" for name, one in found.items()))
    return found


def _manager(config: Config) -> Any:
    """Return lm-eval's index of tasks; its own thousands only where the folder does not have all."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise StageError(f"lm-eval is not installed ({error}): pip install 'largeforge[eval]'") from error
    if config.include_path:
        own = TaskManager(include_path=config.include_path, include_defaults=False)
        if set(config.tasks) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=config.include_path or None)
    for task in config.tasks:
        if task not in manager.all_tasks:
            close = nearest(task, manager.all_tasks)
            raise StageError(f"lm-eval has no task {task}{f'; did you mean {close}?' if close else ''}")
    return manager


def _load(manager: Any, task: str) -> None:
    """Load a task's data, to find out before anything is asked whether it is there."""
    try:
        manager.load([task])
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if any(word in said.lower() for word in _OFFLINE):
            raise StageError(
                f"lm-eval's task {task} needs a data set from the Hugging Face hub, which is not on this machine and "
                "cannot be fetched from here. Fetch it once where there is a connection and bring its cache "
                f"(HF_HOME), or give a task with data of your own (include_path). {said}"
            ) from error
        raise StageError(f"lm-eval cannot load task {task}: {said}") from error


def _evaluate(config: Config, endpoint: Endpoint, manager: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.api.registry import get_model

    model = get_model("local-completions")(
        model=endpoint.model, base_url=f"{endpoint.url}/completions", tokenizer=endpoint.tokenizer,
        tokenizer_backend="huggingface", tokenized_requests=True, num_concurrent=config.concurrency,
        max_length=_longest(endpoint), batch_size=1, timeout=_REQUEST_TIMEOUT_S,
    )  # fmt: skip
    if endpoint.chat_template:
        model.tokenizer.chat_template = endpoint.chat_template
    first = model.tokenizer("a")["input_ids"][:1]
    model.add_bos_token = not config.apply_chat_template and first == [model.tokenizer.bos_token_id]
    try:
        found: dict[str, Any] = simple_evaluate(
            model, tasks=list(config.tasks), task_manager=manager, log_samples=True, bootstrap_iters=0,
            num_fewshot=None if config.num_fewshot < 0 else config.num_fewshot, limit=config.limit or None,
            apply_chat_template=config.apply_chat_template,
        )  # fmt: skip
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise StageError(f"lm-eval stopped: {said}") from error
    return found


def _longest(endpoint: Endpoint) -> int:
    """Return how many tokens the server takes."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{endpoint.url}/models", timeout=30) as response:
        models = json.loads(response.read())["data"]
    return int(next((one["max_model_len"] for one in models if one.get("max_model_len")), 2048))


def series_of(config: Config, task: str, results: dict[str, Any]) -> dict[str, Series]:
    """Return the metrics of a task or group by row.

    Raises StageError where it has none of those that are asked for, or one that is no mean of its rows.
    """
    leaves = _leaves(task, results.get("group_subtasks", {}))
    found: dict[str, list[float | None]] = {}
    for leaf in leaves:
        samples = sorted(results["samples"][leaf], key=lambda sample: int(sample["doc_id"]))
        for metric in config.metrics:
            name, _, wanted = metric.partition(",")
            chosen = wanted or next((one["filter"] for one in samples if name in one), "")
            rows = [one for one in samples if one["filter"] == chosen and name in one]
            if not rows:
                continue
            values = [_number(one[name], task, metric) for one in rows]
            whole = results["results"][leaf].get(f"{name},{chosen}")
            if not isinstance(whole, int | float) or not math.isclose(whole, sum(values) / len(values), abs_tol=1e-6):
                raise StageError(f"{metric} of lm-eval's task {leaf} is no mean of its rows, and cannot be compared")
            found.setdefault(f"{task}.{metric}", []).extend(values)
    if not found:
        has = sorted({key for leaf in leaves for key in results["results"][leaf] if "," in key and "stderr" not in key})
        raise StageError(f"lm-eval's task {task} has none of {listed(config.metrics)}; it has {listed(has)}")
    return {name: Series(values, over=f"lm_eval {task}") for name, values in found.items()}


def _leaves(task: str, groups: dict[str, list[str]]) -> list[str]:
    below = [child for child in groups.get(task, []) if child != task]
    return [leaf for child in below for leaf in _leaves(child, groups)] if below else [task]


def _number(value: Any, task: str, metric: str) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    raise StageError(f"{metric} of lm-eval's task {task} has no score by row, and cannot be compared")
