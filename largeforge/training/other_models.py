"""Further models of a training or an evaluation: a teacher, a reward model. They are frozen and only asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import ModelError
from largeforge.recipe import made_for, model_ref
from largeforge.recipe.made_for import SEQ_CLS
from largeforge.stages.loading import load_adapter, load_model, load_tokenizer, render, task_type
from largeforge.stages.models import ResolvedModel, resolve

if TYPE_CHECKING:
    from largeforge.recipe.further_models import Named
    from largeforge.recipe.schema import Registry
    from largeforge.stages.context import Context


@dataclass(frozen=True)
class OtherModel:
    """A loaded model with its tokenizer; see `recipe.rewards.LoadedModel`."""

    model: Any
    tokenizer: Any
    source: ResolvedModel

    def render(self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool) -> list[int]:
        """Return the token ids of a conversation under the model's own chat template."""
        return render(self.tokenizer, messages, generation_prompt=generation_prompt)

    def has_tokens_of(self, tokenizer: Any) -> bool:
        """Tell whether another tokenizer means the same by each token id."""
        return bool(self.tokenizer.get_vocab() == tokenizer.get_vocab())


class OtherModels:
    """Loads the models that a stage's settings name, each once."""

    def __init__(self, context: Context, registry: Registry, named: Sequence[Named], *, device: str, precision: str):
        self.context, self.registry, self.device, self.precision = context, registry, device, precision
        self.named = named
        self.loaded: dict[tuple[str, str], OtherModel] = {}

    def get(self, reference: str, *, precision: str = "auto") -> OtherModel:
        """Return the model of a reference; `precision` is fp32, bf16, or `auto` for that of the stage.

        Raises ModelError when its files are missing or broken, or when it scores and was to write, or the reverse.
        """
        precision = self.precision if precision == "auto" else precision
        if (reference, precision) not in self.loaded:
            self.context.events.emit("note", text=f"loading {reference}")
            self.loaded[reference, precision] = self._load(reference, precision)
        return self.loaded[reference, precision]

    def identities(self) -> dict[str, dict[str, str]]:
        """Return, for the lock, what each reference turned out to mean."""
        return {reference: other.source.identity() for (reference, _), other in self.loaded.items()}

    def _load(self, reference: str, precision: str) -> OtherModel:
        source = self.source(reference)
        task = task_type(source)
        self._refuse_another_kind(reference, scores=task == SEQ_CLS)
        tokenizer = load_tokenizer(source)
        options = {"device": self.device, "precision": precision, "task_type": task}
        if source.is_adapter:
            model = load_adapter(load_model(self.base(source), **options), Path(source.location))
        else:
            model = load_model(source, **options)
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id  # a reward model looks for it
        return OtherModel(model.eval().requires_grad_(False), tokenizer, source)

    def _refuse_another_kind(self, reference: str, *, scores: bool) -> None:
        for one in self.named:
            if one.reference == reference and scores != (one.refers.to == "reward"):
                raise ModelError(f"{one.key}: {reference} {made_for.SCORES if scores else made_for.NO_REWARD_MODEL}")

    def source(self, reference: str) -> ResolvedModel:
        """Return the files of a reference.

        Raises ModelError or RegistryError when there are none.
        """
        return resolve(reference, registry=self.registry, inputs=self.context.inputs, lock=self.context.lock)

    def base(self, adapter: ResolvedModel) -> ResolvedModel:
        """Return the model that an adapter was trained on, by the name that peft wrote down."""
        settings = json.loads((Path(adapter.location) / "adapter_config.json").read_text(encoding="utf-8"))
        name = str(settings.get("base_model_name_or_path") or "")
        if Path(name).is_dir():
            return self.source(f"path:{name}")
        try:
            return self.source(str(model_ref.parse(f"hub:{name}")))
        except ValueError:
            raise ModelError(
                f"{adapter.reference} is an adapter, and its base {name!r} is not here; "
                "merge it (merge: true) and name the merged model"
            ) from None
