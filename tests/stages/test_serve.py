"""The serve stage around a fake vLLM, and (e2e) around the real one; gateway and clients are real throughout."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge import reaper
from largeforge.errors import ModelError, RegistryError, ServingError, StageError
from largeforge.events import Events, decode
from largeforge.stages import serve
from largeforge.stages.context import Context, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVING = Path(__file__).parents[1] / "serving"
CLIENTS = [("router", False), ("router", True), ("openai", False), ("openai", True)]


def until(condition: Callable[[], object], *, patience_s: float = 240) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def model(folder: Path) -> Path:
    """Make files that pass for a model; the folder's name is the fake's behaviour."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").touch()
    return folder


def question(prompt: str, expert: str, client: str = "router", stream: bool = False) -> dict[str, Any]:
    return {"prompt": prompt, "expert": expert, "client": client, "stream": stream, "max_tokens": 24}


class Stage:
    """A serve stage with an expert `general` and an adapter `mapper`, in this process or one of its own."""

    def __init__(self, folder: Path, general: Path, mapper: Path, python: str):
        self.folder = folder
        self.inputs = {"job:mapper": mapper}
        self.out = folder / "out"
        self.out.mkdir()
        self.stream = io.StringIO()
        self.config: dict[str, Any] = {
            "topology": {
                "experts": {
                    "general": {"model": "base"},
                    "mapper": {"model": "job:mapper", "adapter_on": "general", "keywords": ["taxonomy"]},
                }
            },
            "models": {"base": {"ref": f"path:{general}"}},
            "router": {"name": "keyword"},
            "serving": {"python": python, "enforce_eager": True, "max_num_seqs": 8},
            "gateway": {"port": 0},
            "registry": {"uri": f"sqlite:///{folder}/registry/mlflow.db", "artifacts": str(folder / "registry/files")},
            "device": "cpu",
        }

    def ask(self, *questions: dict[str, Any]) -> None:
        self.config["verify"] = {"questions": list(questions)}

    def run(self) -> Result:
        events = Events("serve", self.stream)
        context = Context("serve", self.inputs, self.out, self.folder / "work", events, "lock0")
        return serve.run(serve.Config.model_validate(self.config), context)

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = [decode(line) for line in self.stream.getvalue().splitlines()]
        return [event for event in found if event and event["kind"] == kind]

    @contextmanager
    def start(self) -> Iterator[subprocess.Popen[str]]:
        """Run the stage as the runner does, but without a reaper above it, and wait for its end."""
        spec = {"stage": "serve", "kind": "serve", "config": self.config, "lock": "lock0"}
        paths = {"inputs": {k: str(v) for k, v in self.inputs.items()}, "out": str(self.out)}
        (self.folder / "work").mkdir(exist_ok=True)  # as the runner does
        path = self.folder / "stage.json"
        path.write_text(json.dumps({**spec, **paths, "work": str(self.folder / "work")}))
        argv = [sys.executable, "-m", "largeforge.stages", str(path)]
        with (
            (self.folder / "stage.log").open("w") as log,
            subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                yield process
            except BaseException:
                process.kill()
                raise


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    general, mapper = model(tmp_path / "general/model"), adapter(tmp_path / "mapper/adapter")
    yield Stage(tmp_path, general, mapper, str(SERVING / "fake_vllm.py"))
    assert reaper.descendants(os.getpid()) == []


def behave(stage: Stage, behaviour: str) -> Path:
    """Let `general` be served by a fake that behaves otherwise."""
    folder = model(stage.folder / "other" / behaviour)
    stage.config["models"]["base"]["ref"] = f"path:{folder}"
    return folder


def read_until(process: subprocess.Popen[str], text: str) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        event = decode(line)
        if event and text in event.get("text", ""):
            return event
    raise AssertionError(f"no event says {text!r}")


def test_every_question_is_answered_by_its_expert(stage: Stage) -> None:
    asked = [question(f"the taxonomy of {client}", "mapper", client, stream) for client, stream in CLIENTS]
    stage.ask(question("hello", "general"), *asked)
    result = stage.run()
    answers = json.loads((stage.out / "answers.json").read_text())
    assert [(a["client"], a["stream"], a["expert"], a["text"]) for a in answers] == [
        ("router", False, "general", "general: hello"),
        *((client, stream, "mapper", f"mapper: the taxonomy of {client}") for client, stream in CLIENTS),
    ]
    fields = ("client", "expert", "prompt", "text", "latency_ms", "stream")
    assert [{field: event[field] for field in fields} for event in stage.events("answer")] == answers
    assert result.metrics["answers"] == 5
    assert result.metrics["latency_p50_ms"] > 0
    assert result.info["experts"]["mapper"] == "job:mapper"
    assert stage.events("note")[0]["text"] == "vLLM for general, mapper: starting"


def test_wrong_experts_and_empty_answers_come_all_at_once(stage: Stage) -> None:
    behave(stage, "mute")
    stage.ask(question("hello", "mapper"), question("good day", "general"))
    with pytest.raises(StageError) as failure:
        stage.run()
    assert "'hello' must be answered by mapper, but general did." in str(failure.value)
    assert "'good day': the answer of general is empty." in str(failure.value)
    assert len(stage.events("answer")) == 2


def test_unregistered_model_says_what_to_run_first(stage: Stage) -> None:
    stage.config["topology"]["experts"]["mapper"]["model"] = "registry:mapper@champion"
    with pytest.raises(RegistryError, match=r"topology\.experts\.mapper: .*register_as: mapper.*python -m largeforge"):
        stage.run()


def test_model_that_is_not_there(stage: Stage) -> None:
    stage.config["topology"]["experts"]["general"]["model"] = "path:/no/such/model"
    with pytest.raises(ModelError, match=r"topology\.experts\.general: model folder /no/such/model does not exist"):
        stage.run()


def test_a_reward_model_is_not_served(stage: Stage) -> None:
    config = '{"architectures": ["Qwen2ForSequenceClassification"]}'
    (Path(stage.config["models"]["base"]["ref"].removeprefix("path:")) / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"topology\.experts\.general: path:.* scores and does not write; it is not"):
        stage.run()


def test_relative_folders_are_not_taken_for_hub_names(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage.folder)
    stage.config["models"]["base"]["ref"] = "path:general/model"
    stage.run()
    assert "--model " + str(stage.folder / "general/model") in (stage.folder / "work/logs/vllm-general.log").read_text()


def test_death_at_start_reaches_the_user(stage: Stage) -> None:
    behave(stage, "dies")
    with pytest.raises(ServingError, match="MemoryError: Cannot allocate memory"):
        stage.run()


@pytest.mark.skipif(shutil.which("curl") is None, reason="runs the curl command that the user is shown")
def test_hold_serves_until_terminated(stage: Stage) -> None:
    stage.config["hold"] = True
    stage.ask(question("hello", "general"))
    with stage.start() as process:
        note = read_until(process, "curl ")
        answer = subprocess.run(["sh", "-c", note["text"]], capture_output=True, check=True)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        events = [decode(line) for line in process.stdout]
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"] == "general: Hello"
    assert process.returncode == 0
    assert events[-1] is not None
    assert events[-1]["kind"] == "result"
    assert events[-1]["metrics"]["answers"] == 1


def test_death_while_held_ends_the_stage(stage: Stage) -> None:
    stage.config["hold"] = True
    folder = behave(stage, "mortal")
    with stage.start() as process:
        read_until(process, "curl ")
        (folder / "die").touch()
        assert process.stdout is not None
        events = [decode(line) for line in process.stdout]
    assert process.returncode == 1
    assert events[-1] is not None
    assert events[-1]["kind"] == "failed"
    assert "vLLM for general, mapper ended with exit code 1" in events[-1]["error"]


def test_sigterm_during_start_up_leaves_nothing(stage: Stage) -> None:
    behave(stage, "hangs")
    with stage.start() as process:
        read_until(process, "starting")
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 130


@pytest.mark.parametrize("behaviour", ["hangs", "stubborn"])
def test_kill_9_of_the_stage_leaves_nothing(stage: Stage, behaviour: str) -> None:
    stage.config["hold"] = True
    behave(stage, behaviour)
    with stage.start() as process:
        read_until(process, "starting" if behaviour == "hangs" else "curl ")
        started = reaper.descendants(process.pid)
        process.kill()
    assert started
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model and a random adapter for it, made once."""
    folder = tmp_path_factory.mktemp("tiny")
    argv = [sys.executable, str(SERVING / "tiny_model.py"), str(folder)]
    subprocess.run(argv, check=True, capture_output=True)
    return folder


@pytest.mark.e2e
def test_real_vllm(tmp_path: Path, tiny: Path) -> None:
    stage = Stage(tmp_path, tiny / "base", tiny / "adapter", sys.executable)
    prompt = "Which taxonomy?"
    asked = [question(prompt, "mapper", client, stream) for client, stream in CLIENTS]
    stage.ask(question("What is a router?", "general"), question("What is a router?", "general", "openai"), *asked)
    result = stage.run()
    answers = json.loads((stage.out / "answers.json").read_text())
    general, mapper = answers[:2], answers[2:]
    assert len({answer["text"] for answer in general}) == 1
    assert len({answer["text"].strip() for answer in mapper}) == 1, "greedy answers do not depend on the client"
    assert result.metrics["answers"] == 6
    assert reaper.descendants(os.getpid()) == []


@pytest.mark.e2e
def test_kill_9_leaves_no_real_vllm(tmp_path: Path, tiny: Path) -> None:
    stage = Stage(tmp_path, tiny / "base", tiny / "adapter", sys.executable)
    stage.config["hold"] = True
    with stage.start() as process:
        read_until(process, "curl ")
        started = reaper.descendants(process.pid)
        process.kill()
    assert len(started) >= 5, "two reapers, two processes of vLLM, the gateway"
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


@pytest.mark.e2e
@pytest.mark.thorough
def test_real_vllm_that_cannot_load_its_model(tmp_path: Path, tiny: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (tiny / "base").iterdir():
        content = path.read_bytes()
        (broken / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ".safetensors" else content)
    stage = Stage(tmp_path, broken, tiny / "adapter", sys.executable)
    with pytest.raises(ServingError, match="SafetensorError") as failure:
        stage.run()
    assert "The weights are damaged" in str(failure.value)
    assert reaper.descendants(os.getpid()) == []
