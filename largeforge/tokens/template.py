"""Chat templates, rendered as transformers renders them.

The environment is that of transformers' `utils/chat_template_utils.py` (5.19): sandboxed, with the same
filters, globals and tracking of `{% generation %}`. It is repeated here so that a template is compiled once and
rendered without torch and without the cost of `apply_chat_template`; tests compare both over all templates of trl.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.data.faults import RowError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Messages = list[dict[str, Any]]
Source = str | dict[str, str]
"""A template, or several by name, of which `default` and `tool_use` mean something to transformers."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Template:
    """A chat template with the special tokens that it may use; raises RowError for what it cannot render."""

    def __init__(self, source: Source, variables: Mapping[str, str]):
        self.source = source
        self._variables = dict(variables)

    @property
    def marks_answers(self) -> bool:
        """Whether the template says with `{% generation %}` what the assistant writes."""
        return marks_answers(self._chosen(None))

    def render(self, messages: Messages, tools: Sequence[Any] | None = None, *, generation_prompt: bool = False) -> str:
        """Return the text of a conversation."""
        compiled = self._compiled(tools)
        try:
            text: str = compiled.render(
                messages=messages, tools=tools or None, documents=None, add_generation_prompt=generation_prompt,
                **self._variables,
            )  # fmt: skip
        except Exception as error:  # a template is a program of somebody else: it may raise anything
            raise RowError(_refused(error)) from error
        return text

    def render_marked(
        self, messages: Messages, tools: Sequence[Any] | None = None
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the text, and from where to where in it the assistant writes, as `{% generation %}` says."""
        compiled = self._compiled(tools)
        blocks: list[str] = []
        spans: list[tuple[int, int]] = []
        try:
            with compiled.environment.activate_tracker(blocks, spans):
                for block in compiled.generate(
                    messages=messages, tools=tools or None, documents=None, add_generation_prompt=False,
                    **self._variables,
                ):  # fmt: skip
                    blocks.append(block)
        except Exception as error:
            raise RowError(_refused(error)) from error
        return "".join(blocks), spans

    def _compiled(self, tools: Sequence[Any] | None) -> Any:
        try:
            return _compile(self._chosen(tools))
        except Exception as error:
            raise RowError(f"the chat template is broken: {_first_line(error)}") from error

    def _chosen(self, tools: Sequence[Any] | None) -> str:
        if isinstance(self.source, str):
            return self.source
        if tools and "tool_use" in self.source:
            return self.source["tool_use"]
        if "default" not in self.source:
            raise RowError(f"the tokenizer has the chat templates {', '.join(sorted(self.source))}, and no default")
        return self.source["default"]


def marks_answers(source: str) -> bool:
    """Tell whether a template has `{% generation %}`."""
    return _GENERATION.search(source) is not None


def sha256(source: Source) -> str:
    """Return the sha256 of a template's text: what `sha256sum chat_template.jinja` prints."""
    text = source if isinstance(source, str) else json.dumps(source, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache
def _compile(source: str) -> Any:
    return _environment().from_string(source)


def _environment() -> Any:
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox

    class Tracker(jinja2.ext.Extension):
        tags = {"generation"}

        def __init__(self, environment: jinja2.Environment):
            super().__init__(environment)
            environment.extend(activate_tracker=self.activate_tracker)
            self._blocks: list[str] | None = None
            self._spans: list[tuple[int, int]] | None = None

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_generation"), [], [], body).set_lineno(line)

        @jinja2.pass_eval_context
        def _generation(self, context: Any, caller: Any) -> str:
            text: str = caller()
            if self._blocks is not None and self._spans is not None:
                start = sum(map(len, self._blocks))
                self._spans.append((start, start + len(text)))
            return text

        @contextmanager
        def activate_tracker(self, blocks: list[str], spans: list[tuple[int, int]]) -> Iterator[None]:
            self._blocks, self._spans = blocks, spans
            try:
                yield
            finally:
                self._blocks = self._spans = None

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Tracker, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Refused(ValueError):
    """What a template says with `raise_exception`."""


def _raise_exception(message: str) -> None:
    raise _Refused(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _refused(error: Exception) -> str:
    if isinstance(error, _Refused):
        return f"the chat template refuses it: {_first_line(error)}"
    return f"the chat template fails: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]


def training_template(source: Source) -> str:
    """Return trl's own version of a known template that marks what the assistant writes; empty for others.

    The same as trl's `get_training_chat_template`, which imports torch: a file `NAME_training.jinja` beside
    `NAME.jinja` is for the template that equals the latter.
    """
    text = source if isinstance(source, str) else source.get("default", "")
    return _training_templates().get(text, "")


@lru_cache
def _training_templates() -> dict[str, str]:
    import importlib.util

    found = importlib.util.find_spec("trl")
    if found is None or not found.origin:
        return {}
    folder = Path(found.origin).parent / "chat_templates"
    pairs = [(path.with_name(path.name.replace("_training", "")), path) for path in folder.glob("*_training.jinja")]
    return {
        plain.read_text(encoding="utf-8"): trained.read_text(encoding="utf-8")
        for plain, trained in sorted(pairs)
        if plain.is_file()
    }
