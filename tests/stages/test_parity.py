"""The parity gate on real files and a real vLLM; faults are planted in what is to be served."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
MAKE = """
import sys
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from tests.serving.tiny_model import main
root = Path(sys.argv[1])
main(root)
tokenizer = AutoTokenizer.from_pretrained(root / "base")
model = AutoModelForCausalLM.from_pretrained(root / "base")
for name in ("merged", "twice"):
    model = PeftModel.from_pretrained(model, root / "adapter").merge_and_unload()
    model.save_pretrained(root / name)
    tokenizer.save_pretrained(root / name)
tokenizer.save_pretrained(root / "adapter")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a base, an adapter on it, the merged model, one merged twice, and rows."""
    root = tmp_path_factory.mktemp("parity")
    subprocess.run([sys.executable, "-c", MAKE, str(root)], check=True, cwd=Path(__file__).parents[2])
    (root / "data").mkdir()
    ask = "What is router number {}?"
    rows = [
        {"messages": [{"role": "user", "content": ask.format(n)}, {"role": "assistant", "content": "x"}]}
        for n in range(6)
    ]
    (root / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def judge(made, model, folder):
    """Run the stage on a model folder; return its exit code and its events."""
    (folder / "out").mkdir(parents=True)
    (folder / "work").mkdir()
    config = {
        "reference": "", "registry": {}, "adapter": {"name": "lora"}, "parity": {"prompts": 5, "answer_tokens": 12},
        "same_answers": ">= 0.9", "logprob_difference": "<= 0.1", "device": "cpu",
        "serving": {"enforce_eager": True, "max_model_len": 256},
    }  # fmt: skip
    inputs = {"data": made / "data", "trained": made / "adapter", "base": made / "base", "model": model}
    spec = {
        "stage": "parity", "kind": "parity", "config": config, "out": str(folder / "out"), "lock": "",
        "work": str(folder / "work"), "inputs": {name: str(path) for name, path in inputs.items()},
    }  # fmt: skip
    (folder / "stage.json").write_text(json.dumps(spec))
    words = [sys.executable, "-m", "largeforge.stages", str(folder / "stage.json")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600)
    events = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    return ended.returncode, events


def test_a_model_that_is_served_as_it_was_trained_goes_on(made, tmp_path):
    code, events = judge(made, made / "merged", tmp_path)
    assert code == 0, events
    found = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert found["metrics"]["parity.same_tokens"] == 1
    assert found["metrics"]["parity.same_answers"] == 1
    assert found["metrics"]["parity.logprob_difference"] < 1e-3
    assert all(gate["passed"] for gate in found["gates"])


@pytest.mark.thorough
def test_an_adapter_that_was_merged_twice_is_refused(made, tmp_path):
    code, events = judge(made, made / "twice", tmp_path)
    assert code == 3, events
    told = events[-1]["error"]
    assert "what would be served is not what was trained" in told
    assert "parity.logprob_difference is" in told
    assert "parity.same_answers is" in told
    assert "the server answers" in told
    assert not (tmp_path / "out" / "parity.json").exists()


@pytest.mark.parametrize("fault", ["template", "special token", "generation config"])
def test_planted_faults_are_refused_by_the_files_alone(made, tmp_path, fault):
    model = tmp_path / "model"
    shutil.copytree(made / "merged", model)
    if fault == "template":
        template = model / "chat_template.jinja"
        template.write_text(template.read_text().replace("assistant\n", "assistant: "))
        expected = "5 of 5 prompts have other tokens by the tokenizer and template of the files"
    elif fault == "special token":
        settings = json.loads((model / "tokenizer.json").read_text())
        settings["added_tokens"] = [one for one in settings["added_tokens"] if one["content"] != "<|im_start|>"]
        (model / "tokenizer.json").write_text(json.dumps(settings))
        expected = "special token '<|im_start|>': trained with 1, served with None"
    else:
        (model / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "pad_token_id": 0}))
        expected = "generation_config.json eos_token_id: trained with 2, served with 0"
    code, events = judge(made, model, tmp_path / "run")
    assert code == 3, events
    assert expected in events[-1]["error"]
    assert "vLLM" not in str(events)
