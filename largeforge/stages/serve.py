"""Serve a topology, ask it questions, put it under load, and stop; or keep it up until interrupted.

An interruption arrives as KeyboardInterrupt (`stages/__main__.py` turns SIGTERM into one) and
stops every process, whenever it comes.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from largeforge.artifacts import write_json
from largeforge.errors import ClientError, LargeForgeError, ModelError, StageError
from largeforge.gateway.learning import located
from largeforge.identity import chat_template
from largeforge.recipe import hub, made_for, model_ref
from largeforge.recipe.base import Strict
from largeforge.recipe.sections.choices import Router
from largeforge.recipe.sections.load_test import LoadTest
from largeforge.recipe.sections.machines import Registry
from largeforge.recipe.sections.models import Model
from largeforge.recipe.sections.serving import Gateway, Serving, Topology, Verify
from largeforge.serving.deployment import Deployment
from largeforge.serving.placement import ServedExpert
from largeforge.stages import load
from largeforge.stages.context import Context, Result
from largeforge.stages.models import ResolvedModel, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai
    from openai.types.chat import ChatCompletionMessageParam

    from largeforge.recipe.sections.serving import Question

ANSWERS = "answers.json"
ROUTE = "route"
"""Input with what routers learnt."""
EXPERT_HEADER = "x-largeforge-expert"
WATCH_EVERY_S = 0.5


class Config(Strict):
    """What to serve, how, and what to ask it."""

    topology: Topology
    models: dict[str, Model] = {}
    """Models that experts may name."""
    router: Router
    serving: Serving
    gateway: Gateway
    verify: Verify = Verify()
    load_test: LoadTest | None = None
    """Load to bear after the questions, complete (`LoadTest.completed`)."""
    registry: Registry
    device: Literal["cpu", "cuda"]
    hold: bool = False
    """Keep serving until interrupted."""


@dataclass(frozen=True)
class Answer:
    """One question's answer, as it ends in `answers.json`."""

    client: str
    expert: str
    prompt: str
    text: str
    latency_ms: float
    stream: bool


def run(config: Config, context: Context) -> Result:
    """Bring the topology up, ask every question, put it under load, and write what came of it."""
    experts = served_experts(config, context)
    load.check(config.load_test)
    deployment = Deployment(
        experts,
        topology=config.topology,
        router=located(config.router, context.inputs[ROUTE]) if ROUTE in context.inputs else config.router,
        serving=config.serving,
        gateway=config.gateway,
        device=config.device,
        logs=context.work / "logs",
        report=lambda text: context.events.emit("note", text=text),
        cores=_cores(),
    )
    with deployment:
        answers = ask_all(config, context, deployment.url, deployment.watch)
        write_json(context.out / ANSWERS, [asdict(answer) for answer in answers])
        measured = metrics(answers)
        if config.load_test:
            measured |= load.measure(
                config.load_test, deployment.url, topology=config.topology, experts=experts, context=context,
                watch=deployment.watch, python=config.serving.python,
            )  # fmt: skip
        if config.hold:
            _hold(deployment, context)
    served = {expert.name: expert.reference for expert in experts}
    return Result(measured, {"url": deployment.url, "experts": served, "resolved": {"experts": served}})


def served_experts(config: Config, context: Context) -> list[ServedExpert]:
    """Find the files of every expert.

    Raises the first error met, with the expert's place in the recipe.
    """
    experts = []
    for name, expert in config.topology.experts.items():
        given = "" if ":" in expert.model else config.models[expert.model].chat_template
        reference = expert.model if ":" in expert.model else config.models[expert.model].ref
        try:
            found = resolve(reference, registry=config.registry, inputs=context.inputs, lock=context.lock)
            if expert.task == "generate":
                _refuse_reward_model(found)
        except LargeForgeError as error:
            raise type(error)(f"topology.experts.{name}: {error}") from error
        location = found.location if reference.startswith("hub:") else str(Path(found.location).resolve())
        experts.append(
            ServedExpert(
                name=name,
                location=location,
                reference=found.reference,
                revision=found.revision,
                replicas=expert.replicas,
                adapter_on=expert.adapter_on,
                lock=found.lock,
                chat_template=given or _template(location, reference),
                template_is_given=bool(given),
                task=expert.task,
            )
        )
    return experts


def _refuse_reward_model(found: ResolvedModel) -> None:
    """Refuse a model that vLLM would serve without a word, and that answers nobody."""
    files = made_for.of_folder(Path(found.location)) if Path(found.location).is_dir() else None
    if files is not None and files.scores:
        raise ModelError(f"{found.reference} {made_for.SCORES}; it is not served as an expert")


def _template(location: str, reference: str) -> str | None:
    """Return the text of the chat template that is with a model; None where that is not known."""
    folder = Path(location)
    if reference.startswith("hub:"):
        try:
            folder = hub.snapshot(model_ref.parse(reference))
        except hub.NotFound:
            return None
    found = chat_template(folder)
    if found is None:
        is_whole = (folder / "tokenizer_config.json").is_file() or not reference.startswith("hub:")
        return "" if is_whole else None
    return found if isinstance(found, str) else None


def ask_all(config: Config, context: Context, url: str, watch: Callable[[], None], *, ca: str = "") -> list[Answer]:
    """Ask every question; `watch` raises where a server has ended, `ca` is a file of authorities to trust.

    Raises StageError with all that were not answered as they should be.
    """
    answers, faults = [], []
    timeout_s = config.gateway.request_timeout_s
    for question in config.verify.questions:
        try:
            answer = _CLIENTS[question.client](question, url, timeout_s, ca)
        except ClientError as error:
            watch()
            raise StageError(f"verify: {question.prompt!r} was not answered: {error}") from error
        context.events.emit("answer", **asdict(answer))
        answers.append(answer)
        if answer.expert != question.expert:
            faults.append(f"{question.prompt!r} must be answered by {question.expert}, but {answer.expert} did.")
        elif not answer.text.strip():
            faults.append(f"{question.prompt!r}: the answer of {answer.expert} is empty.")
    if faults:
        raise StageError("verify: " + "\n  ".join(faults))
    return answers


def _ask_router(question: Question, url: str, timeout_s: float, ca: str) -> Answer:
    from largeforge.client import RouterClient

    with RouterClient(url, timeout_s=timeout_s, verify=ca) as client:
        if question.stream:
            with client.stream(question.prompt, max_tokens=question.max_tokens, temperature=0) as stream:
                for _ in stream:
                    pass
            found = stream.answer
        else:
            found = client.generate(question.prompt, max_tokens=question.max_tokens, temperature=0)
    return _answer(question, found.expert, found.text, found.latency_ms)


def _ask_openai(question: Question, url: str, timeout_s: float, ca: str) -> Answer:
    import openai

    from largeforge.client.trust import verification

    started = time.monotonic()
    http = openai.DefaultHttpxClient(trust_env=False, verify=verification(ca, [url]))
    try:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=timeout_s, http_client=http) as client:
            expert, text = _chat(client, question)
    except openai.OpenAIError as error:
        raise ClientError(f"openai: {error}") from error
    return _answer(question, expert, text, (time.monotonic() - started) * 1000)


def _chat(client: openai.OpenAI, question: Question) -> tuple[str, str]:
    """Return the answering expert and the text, through the official client."""
    create = client.chat.completions.with_raw_response.create
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question.prompt}]
    limit, model = question.max_tokens, "auto"
    if question.stream:
        streamed = create(model=model, messages=messages, max_tokens=limit, temperature=0, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in streamed.parse() if chunk.choices]
        return streamed.headers.get(EXPERT_HEADER, ""), "".join(pieces)
    whole = create(model=model, messages=messages, max_tokens=limit, temperature=0)
    return whole.headers.get(EXPERT_HEADER, ""), whole.parse().choices[0].message.content or ""


def _answer(question: Question, expert: str, text: str, latency_ms: float) -> Answer:
    return Answer(question.client, expert, question.prompt, text, round(latency_ms, 1), question.stream)


def _hold(deployment: Deployment, context: Context) -> None:
    """Serve until interrupted, or until a process dies."""
    body = '{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}'
    context.events.emit("note", text=f"Serving at {deployment.url}/v1 until interrupted (Ctrl-C). Try:")
    context.events.emit(
        "note", text=f"curl {deployment.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
    )
    try:
        while True:
            deployment.watch()
            time.sleep(WATCH_EVERY_S)
    except KeyboardInterrupt:
        context.events.emit("note", text="Interrupted: stopping.")


def metrics(answers: list[Answer]) -> dict[str, float]:
    """Return how many answers came, and how fast."""
    found = {"answers": float(len(answers))}
    if answers:
        found["latency_p50_ms"] = statistics.median(answer.latency_ms for answer in answers)
    return found


def _cores() -> int:
    """Return the cores that the runner gave this stage, 0 when it did not say."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else 0


_CLIENTS: dict[str, Callable[[Question, str, float, str], Answer]] = {"router": _ask_router, "openai": _ask_openai}
