"""One chat template for each server, and proof that the server writes conversations as the training did.

vLLM renders the conversations of a model and of all adapters on it with one template and one tokenizer, those of the
model. What an adapter was trained with is with its files; where it is another one, that adapter cannot be served there.
After the start each expert's server is asked for the tokens of a conversation, and they are compared with those that
a process of our own (`tokens/probe.py`) makes with the expert's files.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import ServingError
from largeforge.serving import server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.serving.placement import Placement, ServedExpert

PROBE_TIMEOUT_S = 120.0
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def chosen(place: Placement) -> str:
    """Return the template that a server must be given; empty where it uses the model's own.

    Raises ServingError with each adapter that was trained with another one.
    """
    base = place.base
    if base.chat_template is None or base.chat_template:
        wanted, given, owner = base.chat_template, base.template_is_given, base.name
    else:  # the model has none: its adapters say what it is
        known = [adapter for adapter in place.adapters if adapter.chat_template]
        wanted, given, owner = (known[0].chat_template, True, known[0].name) if known else (None, False, "")
    if wanted is None:
        return ""
    others = [one for one in place.adapters if one.chat_template and one.chat_template != wanted]
    if others:
        raise ServingError("\n".join(_conflict(one, owner, wanted) for one in others))
    return wanted if given else ""


def sha256(template: str | None) -> str:
    """Return the sha256 of a template's text; empty where it is not known."""
    return hashlib.sha256(template.encode()).hexdigest() if template else ""


class Probe:
    """Tokens that our own code makes of a conversation, for each expert, while the servers load."""

    def __init__(self, places: Sequence[Placement]):
        self._process: subprocess.Popen[bytes] | None = None
        wanted = [_spec(expert) for place in places for expert in place.experts if _has_tokenizer(expert)]
        if wanted:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "largeforge.tokens.probe"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(wanted).encode())
            self._process.stdin.close()
            self._process.stdin = None

    def results(self) -> dict[str, dict[str, Any]]:
        """Return messages and tokens by the expert's name, or the error that prevented them."""
        if self._process is None:
            return {}
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._process.communicate(timeout=PROBE_TIMEOUT_S)[0])
        except (subprocess.TimeoutExpired, ValueError):
            return {}
        finally:
            self.stop()
        return found

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def verify(expert: ServedExpert, expected: dict[str, Any], port: int, *, host: str) -> str:
    """Compare the tokens of a live server with ours; return why that was not possible, or an empty string.

    Raises ServingError when they differ.
    """
    if "ids" not in expected:
        return f"the chat template of {expert.name} is not verified: {expected.get('error', 'no tokenizer files')}"
    asked = {"model": expert.name, "messages": expected["messages"], "add_generation_prompt": True}
    answer = server.post(port, "/tokenize", asked, host=host)
    if answer is None or answer[0] in (404, 405, 501):
        return f"the chat template of {expert.name} is not verified: its server has no /tokenize"
    status, body = answer
    try:
        found = json.loads(body).get("tokens") if status == 200 else None
    except ValueError:
        found = None
    if found != expected["ids"]:
        said = _difference(expected["ids"], found) if found is not None else body[:200].decode(errors="replace")
        raise ServingError(
            f"{expert.name}: the server writes conversations differently from the training (chat template sha256 "
            f"{sha256(expert.chat_template) or 'unknown'}): {said}. Its answers would be those to another text. "
            "Serve the files as they were trained, without chat-template or tokenizer in serving.extra."
        )
    return ""


def _difference(ours: list[int], theirs: list[int]) -> str:
    place = next((at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), None)
    place = min(len(ours), len(theirs)) if place is None else place
    return f"of a probe, token {place} on is {theirs[place : place + 4]}, and must be {ours[place : place + 4]}"


def _conflict(adapter: ServedExpert, owner: str, wanted: str) -> str:
    return (
        f"topology.experts.{adapter.name}: it was trained with another chat template (sha256 "
        f"{sha256(adapter.chat_template)[:12]}…) than its server uses, that of {owner} ({sha256(wanted)[:12]}…), and "
        "vLLM has one for a model and its adapters. Serve it merged (merge: true in its job, no adapter_on here), or "
        "train it with that template (model.chat_template)."
    )


def _spec(expert: ServedExpert) -> dict[str, str]:
    given = expert.chat_template if expert.template_is_given else ""
    return {
        "name": expert.name, "location": expert.location, "revision": expert.revision, "chat_template": given or "",
    }  # fmt: skip


def _has_tokenizer(expert: ServedExpert) -> bool:
    return not expert.is_local or any((Path(expert.location) / name).is_file() for name in _TOKENIZER_FILES)
