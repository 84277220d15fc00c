"""Runs in real trackers: MLflow's SQLite and its server, and the files that wandb writes offline."""

from __future__ import annotations

import http.server
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from largeforge.recipe.schema import Registry
from largeforge.registry.database import Database
from largeforge.trackers import mlflow, wandb
from largeforge.tracking.upload import Upload
from tests.e2e.test_training import small
from tests.e2e.workspace import Workspace, environment
from tests.fakes import tracked, trained


def send(folder: Path, config: Any, registry: Registry | None = None) -> None:
    """Send what a run has told so far, as a sitting does that ends well."""
    upload = Upload(folder, config, (registry or Registry()).model_dump())
    while upload.advance():
        pass
    upload.close()


def mlflow_runs(uri: str, experiment: str) -> tuple[Any, dict[str, Any]]:
    """Return a client, and the runs of an experiment by their stage."""
    with Database(uri).reading() as client:
        found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    by_stage = {run.data.tags.get("largeforge.stage", ""): run for run in found}
    assert len(by_stage) == len(found), "a run is there twice"
    return client, by_stage


def test_mlflow_holds_a_run_with_its_trainings_once(tmp_path: Path) -> None:
    registry = Registry(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=f"{tmp_path}/artifacts")
    whole = tracked.whole()
    folder = tracked.run_dir(tmp_path, *whole[:40])
    config = mlflow.Config(tags={"team": "search"})
    send(folder, config, registry)
    client, runs = mlflow_runs(registry.uri, "sft_qwen7b")
    assert runs["train"].info.status == "RUNNING"
    tracked.write(folder, *whole[30:])  # a resumed training repeats some steps
    send(folder, config, registry)
    (folder / "tracking" / "mlflow.json").unlink()
    send(folder, config, registry)  # all of it once more
    client, runs = mlflow_runs(registry.uri, "sft_qwen7b")
    assert set(runs) == {"", "train"}
    run, training = runs[""], runs["train"]
    assert training.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert (run.info.status, training.info.status) == ("FINISHED", "FINISHED")
    assert run.info.run_name == folder.name
    assert run.data.tags["largeforge.lock"] == "3f9ac2d1b7e0"
    assert run.data.tags["team"] == training.data.tags["team"] == "search"
    assert training.data.params["method.learning_rate"] == "2e-05"
    assert "hidden" not in json.dumps([run.data.params, training.data.params, run.data.tags])
    curve = client.get_metric_history(training.info.run_id, "train/loss")
    told = [event for event in whole if event["kind"] == "progress" and event["stage"] == "train"]
    assert [(point.step, point.value) for point in curve] == [(event["step"], event["loss"]) for event in told]
    assert curve[0].timestamp == int(told[0]["time"] * 1000)
    assert len(client.get_metric_history(training.info.run_id, "eval/loss")) == 10
    assert training.data.metrics["evaluate/exact_match"] == 0.92
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert [file.path for file in client.list_artifacts(training.info.run_id)] == ["README.md"]


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file: LevelDB's log format after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_wandb_offline_holds_every_step_once_over_two_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = tracked.whole()
    folder = tracked.run_dir(tmp_path, *whole[:40])
    config = wandb.Config(mode="offline", project="experts", tags=["search"])
    send(folder, config)
    tracked.write(folder, *whole[40:])
    send(folder, config)
    send(folder, config)  # nothing new
    files = sorted((folder / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({path.name for path in files}) == 1, "both sittings are one run"
    records = [record for path in files for record in wandb_records(path)]
    (run, *_) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name, list(run.tags)) == ("experts", "sft_qwen7b train", ["sft_qwen7b", "search"])
    settings = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert settings["method.learning_rate"] == 2e-5
    assert settings["lock"] == "3f9ac2d1b7e0"
    assert "hidden" not in json.dumps(settings)
    rows = [_row(record.history) for record in records if record.WhichOneof("record_type") == "history"]
    curve = {row["_step"]: row["train/loss"] for row in rows if "train/loss" in row}
    told = [event for event in whole if event["kind"] == "progress" and event["stage"] == "train"]
    assert curve == {event["step"]: event["loss"] for event in told}
    assert len([row for row in rows if "train/loss" in row]) == len(curve), "a step is there twice"
    assert {row["_step"]: row["_timestamp"] for row in rows if "train/loss" in row}[20] == trained.START + 30
    assert [row["_step"] for row in rows if any(key.startswith("samples") for key in row)] == [100, 200, 300, 400, 500]
    summary = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= {item.key or ".".join(item.nested_key): item.value_json for item in record.summary.update}
    assert json.loads(summary["evaluate/exact_match"]) == 0.92
    media = json.loads(next(path for path in folder.rglob("*.table.json")).read_text())
    assert media["columns"] == ["step", "prompt", "text", "reference"]


def _row(history: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in history.item}


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """A real `mlflow server` on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/files",
    ]  # fmt: skip
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                break
        except OSError:
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """A server that answers everything with an error."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_error(403, "no")

        do_GET = do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.thorough
def test_a_training_is_tracked_by_a_server_while_another_one_refuses(
    workspace: Workspace, mlflow_server: str, refusing_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    small(workspace)
    words = [
        "+recipe=small", "tracking=[mlflow,wandb]", f"tracking.mlflow.uri={mlflow_server}",
        f"tracking.wandb.base_url={refusing_server}", "method.max_steps=24", "method.eval_steps=12",
        "method.sample_steps=12", "method.sample_tokens=4", "hardware.price_per_hour=1.5", "~gates",
    ]  # fmt: skip
    result = workspace.run(*words, timeout_s=900)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = workspace.run_dir("small")
    notes = [line for line in result.stdout.splitlines() if "does not track this run" in line]
    assert len(notes) == 1, result.stdout
    assert "wandb" in notes[0]
    assert f"python -m largeforge track runs/small/{folder.name}" in notes[0]
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    steps = {event["step"]: event for event in told if event["kind"] == "progress" and event["stage"] == "train"}
    client, runs = mlflow_runs(mlflow_server, "small")
    training = runs["train"]
    curve = client.get_metric_history(training.info.run_id, "train/loss")
    assert {point.step: point.value for point in curve} == {step: event["loss"] for step, event in steps.items()}
    assert {point.step for point in client.get_metric_history(training.info.run_id, "eval/loss")} >= {12, 24}
    assert training.data.metrics["train/mfu"] > 0
    assert training.data.metrics["train/cost_usd"] > 0
    assert (runs[""].info.status, training.info.status) == ("FINISHED", "FINISHED")
    assert "report.html" in [file.path for file in client.list_artifacts(runs[""].info.run_id)]
    page = (folder / "report.html").read_text()
    for words_of_report in ("Samples during training", "Gradient norm", "held out, last", "Cost of training"):
        assert words_of_report in page, words_of_report
    later = subprocess.run(
        workspace.command("track", "tracking=[mlflow,wandb]", "tracking.mlflow.uri=sqlite:///later.db",
                          f"tracking.wandb.base_url={refusing_server}"),
        cwd=workspace.path, env=environment(), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert later.returncode == 1, later.stdout + later.stderr
    assert "mlflow: runs/small/" in later.stdout
    assert later.stderr.startswith("wandb: ")
    assert "Traceback" not in later.stderr
    _, copied = mlflow_runs(f"sqlite:///{workspace.path}/later.db", "small")
    assert copied["train"].data.metrics["train/loss"] == steps[24]["loss"]
