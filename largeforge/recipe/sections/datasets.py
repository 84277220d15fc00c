"""A dataset: where its rows lie, what form they have, which are held out, what is done about bad ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from largeforge.errors import nearest
from largeforge.files.paths import has_password
from largeforge.recipe.base import Name, Strict

Form = Literal["auto", "messages", "prompt_response", "alpaca", "sharegpt", "preference", "unpaired", "prompt", "text"]


def _paths(value: Any, info: ValidationInfo) -> str | list[str]:
    """Return one path or several; nothing where a mixture stands in their place."""
    mixture = bool(info.data.get("mix"))
    if value in ("", [], None):
        if mixture or info.field_name == "heldout_path":
            return ""
        raise ValueError("must be a path, or a list of paths")
    if mixture and info.field_name == "path":
        raise ValueError("a dataset has either a path or a mix, not both")
    each = value if isinstance(value, list) else [value]
    for path in each:
        if not isinstance(path, str) or not path:
            raise ValueError("must be a path, or a list of paths")
        if has_password(path):
            raise ValueError("an address has no user or password in it: credentials stand in the environment")
    return [*each] if isinstance(value, list) else str(value)


_TEXT = {"type": "string"}
Paths = Annotated[
    str | list[str],
    PlainValidator(_paths),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
]
KEYS = (
    "messages", "conversations", "prompt", "response", "completion", "question", "answer", "instruction", "input",
    "output", "solution", "reference", "system", "chosen", "rejected", "label", "text", "tools",
)  # fmt: skip
"""Keys of rows that forms know."""


def _known(columns: dict[str, str]) -> dict[str, str]:
    for key in columns:
        if key not in KEYS:
            close = nearest(key, KEYS)
            hint = f" Did you mean {close!r}?" if close else ""
            raise ValueError(f"no form has a key {key!r}; there is: {', '.join(KEYS)}.{hint}")
    return columns


Columns = Annotated[
    dict[str, str],
    AfterValidator(_known),
    WithJsonSchema({"type": "object", "propertyNames": {"enum": list(KEYS)}, "additionalProperties": _TEXT}),
]


Column = Annotated[str, Field(min_length=1)]


class Source(Strict):
    """Rows of one name in a mixture."""

    path: Paths
    """As `path` of a dataset."""
    weight: float = Field(default=0.0, ge=0)
    """Share of the rows that are seen, relative to the other weights; without any weights each row is seen once."""
    format: Form = "auto"
    """Form of its rows."""
    columns: Columns = {}
    """As `columns` of a dataset."""
    slices: list[Column] = []
    """As `slices` of a dataset."""
    system: str = ""
    """System prompt for its rows that have none; empty means that of the dataset."""
    max_rows: int = Field(default=0, ge=0)
    """Use only its first rows; 0 means all."""


def _weights(mix: dict[str, Source]) -> dict[str, Source]:
    given = [name for name, source in mix.items() if source.weight > 0]
    if given and len(given) < len(mix):
        without = next(name for name in mix if name not in given)
        raise ValueError(f"either all sources of a mixture have a weight above 0, or none; {without} has none")
    return mix


class Dataset(Strict):
    """Rows to train on and rows held out to judge with."""

    name: str = ""
    """Name of the choice under `conf/dataset/`."""
    mix: Annotated[dict[Name, Source], AfterValidator(_weights)] = {}
    """Several sources by name in place of `path`, each with its weight (docs/datasets.md)."""
    mix_rows: int = Field(default=0, ge=0)
    """Rows of one pass over a mixture with weights; 0 means as many as its sources have together."""
    path: Paths
    """Files (JSONL, Parquet, CSV, JSON), folders, patterns such as `data/*.jsonl`, or addresses such as
    `s3://…` and `hf://datasets/…`: one or a list. Relative to the working directory; `recipe:data/x.jsonl` is
    relative to the recipe."""
    format: Form = "auto"
    """Form of the rows (docs/datasets.md); `auto` recognises it in each file."""
    columns: Columns = {}
    """Key that a form needs to the column that holds it, for example `{prompt: question, response: reply}`."""
    slices: list[Column] = []
    """Further columns, such as a language or a product, by whose values results are also shown (docs/evaluation.md)."""
    heldout_path: Paths = ""
    """Rows that are never trained on; empty means a part of the rows by `heldout_fraction`."""
    heldout_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the rows held out, chosen by a hash of the prompt, so that adding rows moves none."""
    system: str = ""
    """System prompt for rows that have none."""
    max_rows: int = Field(default=0, ge=0)
    """Use only the first rows of `path`; 0 means all."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a row that cannot be used does: ends the run with all such rows named, or is put into `skipped.jsonl`."""
    max_skipped: float = Field(default=0.05, ge=0, le=1)
    """Share of the rows that may be skipped; more than that ends the run."""
    dedup: Literal["none", "exact", "near"] = "none"
    """Whether rows that repeat an earlier one are removed: with the same prompt and answer, or nearly the same text."""
    dedup_threshold: float = Field(default=0.8, gt=0, le=1)
    """Share of their text that two rows have in common to be nearly the same (Jaccard, for `dedup: near`)."""
    contamination: Literal["off", "warn", "remove", "fail"] = "warn"
    """What is done when training rows contain large parts of held-out rows (word n-grams, as for GPT-3)."""
    contamination_threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of the n-grams of a held-out row that must occur in training rows to count."""

    @model_validator(mode="before")
    @classmethod
    def _without_path(cls, values: Any) -> Any:
        """A mixture stands in place of a path, which is required otherwise."""
        return {"path": "", **values} if isinstance(values, dict) and values.get("mix") else values

    @property
    def sources(self) -> dict[str, Source]:
        """The sources of a mixture by name, or what `path` says under an empty name."""
        if not self.mix:
            return {
                "": Source(
                    path=self.path,
                    format=self.format,
                    columns=self.columns,
                    slices=self.slices,
                    system=self.system,
                    max_rows=self.max_rows,
                )
            }
        return {
            name: source.model_copy(
                update={"system": source.system or self.system, "slices": source.slices or self.slices}
            )
            for name, source in self.mix.items()
        }

    @property
    def heldout_source(self) -> Source | None:
        """What `heldout_path` says; None where held-out rows are a part of the others."""
        if not self.heldout_path:
            return None
        return Source(
            path=self.heldout_path, format=self.format, columns=self.columns, slices=self.slices, system=self.system
        )

    @property
    def titles(self) -> list[str]:
        """What the data is called: its paths, or the names of the mixture."""
        return list(self.mix) or ([self.path] if isinstance(self.path, str) else self.path)
