"""Where the config.json of a model is found, and that nothing of it can harm or mislead."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from largeforge.estimate.decoders import shape
from largeforge.recipe import hub
from largeforge.recipe.compose import compose
from largeforge.recipe.model_config import config_of, stored_format
from largeforge.recipe.schema import Model
from largeforge.recipe.validate import validate

CONFIG = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500, "torch_dtype": "float16",
}  # fmt: skip
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_cache_of_this_machine(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hub._answer.cache_clear()


@pytest.fixture
def recipe(folder):
    folder.write(folder.trains)
    return folder.recipe()


class Mirror:
    """A hub on the loopback; `answers` maps a path to a status and a body or an address."""

    def __init__(self):
        self.answers: dict[str, tuple[int, bytes | str]] = {}
        self.asked: list[tuple[str, str]] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.asked.append((self.path, self.headers.get("Authorization", "")))
                status, body = mirror.answers.get(self.path, (404, b""))
                self.send_response(status)
                if isinstance(body, str):
                    self.send_header("Location", body)
                self.end_headers()
                if isinstance(body, bytes):
                    self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(monkeypatch):
    started = Mirror()
    monkeypatch.setenv("HF_ENDPOINT", started.url)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    yield started
    started.close()


PATH = "/acme/model/resolve/main/config.json"


def cache(tmp_path, config, *, name="models--acme--model", revision="main"):
    """Lay out a hub cache as huggingface_hub does."""
    base = tmp_path / "cache" / "huggingface" / "hub" / name
    (base / "refs").mkdir(parents=True)
    (base / "refs" / revision).write_text(COMMIT)
    (base / "snapshots" / COMMIT).mkdir(parents=True)
    (base / "snapshots" / COMMIT / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))


def test_the_recipe_speaks_first(recipe):
    found = config_of(recipe.model, recipe)
    assert (found.source, found.weights, found.problem) == ("the recipe", "bf16", "")
    assert shape(found.fields).parameters == 7615616512


def test_a_tiny_model_has_the_vocabulary_of_its_tokenizer(folder):
    folder.write(folder.trains.replace("qwen2_5_7b_instruct", "tiny_general").replace("adapter: lora", "adapter: none"))
    recipe = folder.recipe("model.architecture.vocab_size=0", "model.tokenizer.vocab_size=777")
    found = config_of(recipe.model, recipe)
    assert (found.fields["vocab_size"], found.weights) == (777, "fp32")


def test_a_folder_is_read(recipe, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(CONFIG))
    found = config_of(f"path:{tmp_path}/m", recipe)
    assert (found.fields, found.weights) == (CONFIG, "fp16")


def test_an_adapter_has_the_config_of_its_base(recipe, tmp_path):
    for name, file, content in [
        ("base", "config.json", CONFIG),
        ("a/out", "adapter_config.json", {"base_model_name_or_path": str(tmp_path / "base")}),
        ("b", "adapter_config.json", {"base_model_name_or_path": "Qwen/Qwen3-8B"}),
    ]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / file).write_text(json.dumps(content))
    assert config_of(f"run:{tmp_path}/a", recipe).fields == CONFIG
    assert config_of(f"path:{tmp_path}/b", recipe).fields["hidden_size"] == 4096


def test_an_adapter_on_itself_is_no_endless_search(recipe, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    assert "without end" in config_of(f"path:{tmp_path}", recipe).problem


def test_a_job_starts_from_what_the_job_before_it_starts_from(folder):
    rest = "\n".join(f"      {line}" for line in ("dataset: {path: rows.jsonl}", "method: {name: sft}"))
    folder.write(
        "# @package _global_\n# Two jobs.\ndefaults:\n  - /model@jobs.a.model: qwen3_8b\n  - _self_\nname: mine\n"
        f"jobs:\n    a:\n{rest}\n      adapter: {{name: none}}\n"
        f"    b:\n      model: {{ref: 'job:a'}}\n{rest}\n      adapter: {{name: lora}}\n"
    )
    recipe = folder.recipe()
    found = config_of(recipe.jobs["b"].model, recipe)
    assert (found.fields["hidden_size"], found.source) == (4096, "job a: the recipe")
    assert "no job 'c'" in config_of("job:c", recipe).problem


def test_the_library_knows_a_repository_without_network(recipe):
    found = config_of("hub:openai/gpt-oss-20b@abc", recipe)
    assert (found.source, found.weights) == ("conf/model/gpt_oss_20b.yaml", "mxfp4")
    assert shape(found.fields).experts == 32


def test_a_choice_of_the_user_is_library_too(folder, recipe):
    folder.write("name: mine\nref: hub:acme/model\narchitecture: {hidden_size: 1}\n", "broken", "conf/model")
    text = json.dumps({key: value for key, value in CONFIG.items() if key != "torch_dtype"})
    folder.write(f"name: mine\nref: hub:acme/model\narchitecture: {text}\n", "mine", "conf/model")
    assert config_of("hub:acme/model", recipe).source == "conf/model/mine.yaml"


def test_the_cache_goes_before_the_library(recipe, tmp_path):
    cache(tmp_path, {**CONFIG, "hidden_size": 128}, name="models--Qwen--Qwen3-8B")
    found = config_of("hub:Qwen/Qwen3-8B", recipe)
    assert (found.fields["hidden_size"], found.source) == (128, "the hub cache, commit 01234567")


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3"])
def test_the_cache_of_huggingface_hub_itself_is_understood(recipe, tmp_path, monkeypatch, revision):
    from huggingface_hub import try_to_load_from_cache

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache" / "huggingface" / "hub"))
    base = tmp_path / "cache" / "huggingface" / "hub" / "models--acme--model"
    (base / "refs" / revision).parent.mkdir(parents=True)
    (base / "refs" / revision).write_text(COMMIT)
    (base / "snapshots" / COMMIT).mkdir(parents=True)
    (base / "snapshots" / COMMIT / "config.json").write_text(json.dumps(CONFIG))
    assert try_to_load_from_cache("acme/model", "config.json", cache_dir=hub.cache_folder(), revision=revision)
    suffix = "" if revision == "main" else f"@{revision}"
    assert config_of(f"hub:acme/model{suffix}", recipe).fields == CONFIG
    assert config_of(f"hub:acme/model@{COMMIT}", recipe).fields == CONFIG


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path, variable):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert hub.cache_folder() == tmp_path / "home" / "hub"
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert hub.cache_folder() == tmp_path / "other"


def test_offline_says_where_it_looked(recipe):
    found = config_of("hub:acme/model", recipe)
    assert found.fields is None
    assert all(part in found.problem for part in ("not in the cache", "conf/model/", "not asked (offline)"))


def test_the_hub_is_asked_once_and_the_answer_kept(recipe, mirror, tmp_path):
    mirror.answers[PATH] = (200, json.dumps(CONFIG).encode())
    assert config_of("hub:acme/model", recipe).fields == CONFIG
    hub._answer.cache_clear()
    assert "kept in" in config_of("hub:acme/model", recipe).source
    assert mirror.asked == [(PATH, "")]
    assert config_of("hub:acme/model", recipe, online=False).fields is None


def test_a_hub_without_an_answer_is_asked_once(recipe, mirror):
    for _ in range(3):
        assert "answers 404" in config_of("hub:acme/model", recipe).problem
    assert len(mirror.asked) == 1


def test_the_token_goes_to_the_hub_and_not_where_it_redirects(recipe, mirror, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    other = Mirror()
    try:
        mirror.answers[PATH] = (302, "/moved")
        mirror.answers["/moved"] = (307, f"{other.url}/away")
        other.answers["/away"] = (200, json.dumps(CONFIG).encode())
        assert config_of("hub:acme/model", recipe).fields == CONFIG
    finally:
        other.close()
    assert mirror.asked == [(PATH, "Bearer secret"), ("/moved", "Bearer secret")]
    assert other.asked == [("/away", "")]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((401, b""), "HF_TOKEN"),
        ((302, "file:///etc/passwd"), "answers 302"),
        ((302, PATH), "answers 302"),
        ((200, b"<html>"), "no JSON"),
        ((200, b"[]"), "no JSON object"),
        ((200, b"[" * 500_000), "no JSON"),
        ((200, b" " * (hub.MAX_BYTES + 1)), "larger than"),
    ],
)
def test_a_strange_answer_is_a_reason_and_not_kept(recipe, mirror, tmp_path, answer, problem):
    mirror.answers[PATH] = answer
    found = config_of("hub:acme/model", recipe)
    assert found.fields is None
    assert problem in found.problem
    assert not (tmp_path / "cache" / "largeforge").exists()


def test_a_mirror_that_is_not_there_or_no_address_is_a_reason(recipe, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "does not answer" in config_of("hub:acme/model", recipe).problem
    monkeypatch.setenv("HF_ENDPOINT", "http://me:password@127.0.0.1:9")
    assert "password" not in config_of("hub:acme/model", recipe).problem
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert "no http address" in config_of("hub:acme/model", recipe).problem


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"a": "' + "x" * hub.MAX_BYTES + '"}', "\0"])
def test_a_broken_file_is_a_reason(recipe, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    found = config_of(f"path:{tmp_path}", recipe)
    assert found.fields is None
    assert str(tmp_path / "config.json") in found.problem


@pytest.mark.parametrize("revision", ["../../../etc", "/etc", "a/../../b"])
def test_a_revision_does_not_leave_the_cache(recipe, revision):
    assert "no revision" in config_of(Model(ref=f"hub:acme/model@{revision}"), recipe).problem


def test_a_registered_model_is_found_without_mlflow(recipe, folder):
    from largeforge.recipe import model_ref
    from largeforge.registry import Lineage, ModelRegistry

    assert "nothing is registered yet" in config_of("registry:bot", recipe).problem
    made = folder.path / "made"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "model.safetensors").write_bytes(b"weights")
    registry = ModelRegistry(recipe.registry)
    registry.register("bot", made, kind="model", lineage=Lineage("mine", "", ""), metrics={}, alias="champion")
    path = registry.resolve(model_ref.parse("registry:bot")).path
    for reference in ("registry:bot", "registry:bot@champion", "registry:bot/1"):
        found = config_of(reference, recipe)
        assert (found.fields, found.source) == (CONFIG, str(path / "config.json"))
    for reference in ("registry:bot@prod", "registry:bot/2", "registry:other"):
        assert "the registry has no" in config_of(reference, recipe).problem


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({}, "bf16"),
        ({"torch_dtype": "float32"}, "fp32"),
        ({"dtype": "float16"}, "fp16"),
        ({"text_config": {"torch_dtype": "float32"}}, "fp32"),
        ({"torch_dtype": "bfloat16", "quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"torch_dtype": ["odd"]}, "bf16"),
    ],
)
def test_stored_format_is_what_the_files_say(config, weights):
    assert stored_format(config) == weights


def test_nothing_heavy_is_imported():
    program = (
        "import sys; from largeforge.recipe import model_config; "
        "print([name for name in ('torch', 'transformers', 'mlflow', 'huggingface_hub') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_files_of_a_folder_count_more_than_an_architecture_that_came_with_the_choice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(CONFIG))
    recipe = validate(compose(["+recipe=sft_qwen7b", f"model.ref=path:{tmp_path / 'base'}"]))
    assert config_of(recipe.model, recipe).fields["hidden_size"] == CONFIG["hidden_size"]
    gone = validate(compose(["+recipe=sft_qwen7b", "model.ref=path:/nowhere"]))
    assert config_of(gone.model, gone).fields["hidden_size"] == 3584


def test_an_architecture_does_not_stay_when_the_repository_of_its_choice_is_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = validate(compose(["+recipe=sft_qwen7b", "model.ref=hub:Qwen/Qwen2.5-0.5B-Instruct"]))
    assert config_of(small.model, small).fields["hidden_size"] == 896
    other = validate(compose(["+recipe=sft_qwen7b", "model.ref=hub:nobody/unheard-of"]))
    assert config_of(other.model, other, online=False).fields is None
