"""Real logs of vLLM 0.32 on a CPU, shortened, and what a user must be told of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.serving.diagnosis import explain, how_ended

LOGS = Path(__file__).parent / "logs"

EXPECTED = {
    "unknown_architecture": ("model type `nope`", "update vLLM"),
    "damaged_weights": ("incomplete metadata", "make or fetch the model again"),
    "config_does_not_fit": ("The size of tensor a (128) must match", "config.json does not fit"),
    "port_taken": ("Address already in use", "run the same command again"),
    "unknown_option": ("--swap-spacee", "serving.extra"),
    "not_enough_memory": ("requested memory for kv (200.0 GiB)", "serving.cpu_kvcache_gib"),
    "missing_adapter": ("/tmp/tiny/nothere", "adapter's folder"),
    "max_model_len": ("max_model_len (9999)", "Lower serving.max_model_len"),
    "hub_not_reachable": ("couldn't connect to 'https://huggingface.co'", "serve a folder with path:"),
}


def test_every_log_is_expected() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_cause_and_advice(name: str) -> None:
    cause, advice = EXPECTED[name]
    *said, last = explain((LOGS / f"{name}.log").read_text(), 1).splitlines()
    assert cause in "\n".join(said)
    assert advice in last
    assert len(said) <= 4
    assert "Engine core initialization failed" not in "\n".join(said)


def test_without_an_error_the_end_of_the_log_is_shown() -> None:
    log = (
        "(APIServer pid=1) INFO 11-21 03:13:30 [x.py:1] one\n\ntwo\nthree\nfour\nnanobind: leaked 4 instances!\nfive\n"
    )
    assert explain(log, 1) == "  two\n  three\n  four\n  five"


def test_killed_by_the_kernel() -> None:
    assert "most likely by the kernel" in explain("loading weights\n", 137)
    assert how_ended(137) == how_ended(-9) == "was killed by SIGKILL"


@pytest.mark.parametrize("code", [1, 127, 128, 255])
def test_exit_codes_that_are_no_signals(code: int) -> None:
    assert how_ended(code) == f"ended with exit code {code}"
    assert explain("", code) == ""


def test_illegal_instruction_points_to_float32() -> None:
    assert "serving.dtype=float32" in explain("", 132)


def test_missing_vllm() -> None:
    assert "pip install vllm" in explain("/usr/bin/python3: No module named vllm\n", 1)
