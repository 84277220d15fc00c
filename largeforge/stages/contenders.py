"""The models that an evaluation sets beside each other, in the order in which they are loaded or served."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.recipe.evaluation import Endpoint
from largeforge.recipe.made_for import SEQ_CLS
from largeforge.serving.model_servers import ModelServers
from largeforge.serving.placement import ServedExpert
from largeforge.serving.vllm import HOST
from largeforge.stages.loaded_subject import LoadedSubject
from largeforge.stages.loading import load_adapter, load_model, load_tokenizer, task_type
from largeforge.stages.served_subject import ServedSubject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.schema import Serving
    from largeforge.stages.context import Context
    from largeforge.stages.models import ResolvedModel
    from largeforge.training.other_models import OtherModels

Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One model of a comparison."""

    name: str
    """`model` for the one that is judged, `base`, or the name of a baseline."""
    source: ResolvedModel
    stands_on: ResolvedModel | None = None
    """The whole model that an adapter stands on."""
    chat_template: str = ""
    """Template that the recipe gives, where it is not with the files."""
    quantization: Any = None
    """How transformers quantizes the whole model while loading it."""

    @property
    def whole(self) -> ResolvedModel:
        """The whole model whose weights are loaded."""
        return self.stands_on or self.source

    def tokenizer(self, rows: list[Row]) -> Any:
        """Return its tokenizer, which renders conversations unless the rows are plain text."""
        return load_tokenizer(self.source, renders="text" not in rows[0], chat_template=self.chat_template)


def grouped(contenders: Sequence[Contender]) -> list[list[Contender]]:
    """Return contenders that share a whole model together, a whole model before the adapters on it."""
    groups: dict[tuple[str, bool], list[Contender]] = {}
    for contender in contenders:
        groups.setdefault((contender.whole.location, contender.quantization is not None), []).append(contender)
    return [sorted(group, key=lambda one: one.stands_on is not None) for group in groups.values()]


def loaded(
    group: Sequence[Contender], rows: list[Row], context: Context, *, task: str, device: str, others: OtherModels
) -> Iterator[tuple[Contender, LoadedSubject]]:
    """Yield each contender of a group as a model in this process, made for `task`; its memory is free afterwards."""
    whole = load_model(group[0].whole, device=device, task_type=task, quantization=group[0].quantization)
    for contender in group:
        adapted = contender.stands_on is not None
        model = load_adapter(whole, Path(contender.source.location)) if adapted else whole
        tokenizer = contender.tokenizer(rows)
        scores = task_type(contender.source) == SEQ_CLS
        if task == SEQ_CLS:  # it looks for the last token that is no padding
            model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        yield contender, LoadedSubject(model, tokenizer, rows, context, others=others, has_reward_head=scores)
        if adapted and contender is not group[-1]:
            whole = model.unload()
    del model, whole
    _free(device)


@contextmanager
def served(
    group: Sequence[Contender], rows: list[Row], context: Context, *, device: str, serving: Serving, others: OtherModels
) -> Iterator[list[tuple[Contender, ServedSubject]]]:
    """Give each contender of a group as a model that one vLLM server answers for."""
    first = group[0]
    base = _expert(first) if first.stands_on is None else _expert(Contender("base-of-adapters", first.whole))
    adapters = [_expert(one, on=base.name) for one in group if one.stands_on is not None]
    servers = ModelServers(
        [base, *adapters],
        serving=serving,
        device=device,
        logs=context.work / "logs",
        report=lambda text: context.events.emit("note", text=text),
    )
    with servers:
        yield [(one, _behind(one, servers, rows, context, others)) for one in group]


def _behind(
    contender: Contender, servers: ModelServers, rows: list[Row], context: Context, others: OtherModels
) -> ServedSubject:
    name, source = contender.name, contender.source
    endpoint = Endpoint(f"http://{HOST}:{servers.ports[name]}/v1", name, source.location, contender.chat_template)
    tokenizer = contender.tokenizer(rows)
    return ServedSubject(endpoint, servers.ports[name], servers.watch, tokenizer, rows, context, others=others)


def _expert(contender: Contender, *, on: str = "") -> ServedExpert:
    source = contender.source
    here = Path(source.location)
    return ServedExpert(
        name=contender.name,
        location=str(here.resolve()) if here.is_dir() else source.location,
        reference=source.reference,
        revision=source.revision,
        adapter_on=on,
        lock=source.lock,
        chat_template=contender.chat_template or None,
        template_is_given=bool(contender.chat_template),
    )


def _free(device: str) -> None:
    """Give the memory of models that nobody holds any more back to the GPU."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
