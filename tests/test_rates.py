"""Earlier runs on a machine say how fast the next one will be."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge import rates
from largeforge.artifacts import canonical_json
from largeforge.rates import Achieved, known, record

RUN = Achieved(
    device="NVIDIA H100", model="qwen2-7-28x3584", method="sft", adapter="lora", precision="bf16", gpus=1,
    flops=4e15, seconds=10.0,
)  # fmt: skip


def at(tflops: float, **changes: object) -> Achieved:
    return replace(RUN, flops=tflops * 1e12 * RUN.seconds, **changes)  # type: ignore[arg-type]


def test_without_earlier_runs_nothing_is_known(tmp_path: Path) -> None:
    assert known(tmp_path, RUN) is None
    assert not list(tmp_path.iterdir())


def test_the_median_of_equal_runs_counts(tmp_path: Path) -> None:
    for tflops in (400, 100, 420):
        record(tmp_path / "runs", at(tflops))
    found = known(tmp_path / "runs", RUN)
    assert found is not None
    assert (found.runs, found.of, found.flops_per_s.expected) == (3, "this model", 400e12)
    assert found.flops_per_s.low == 100e12
    assert found.flops_per_s.high == 500e12


def test_several_gpus_share_the_work(tmp_path: Path) -> None:
    record(tmp_path, at(800, gpus=2))
    found = known(tmp_path, RUN)
    assert found is not None
    assert found.flops_per_s.expected == 400e12


def test_runs_of_another_model_count_for_less_and_only_alone(tmp_path: Path) -> None:
    record(tmp_path, at(300, model="llama"))
    record(tmp_path, at(200, adapter="lora-nf4"))
    other = known(tmp_path, RUN)
    assert other is not None
    assert (other.runs, other.of) == (2, "another model or method")
    assert other.flops_per_s.high / other.flops_per_s.low > 5
    record(tmp_path, at(100))
    same = known(tmp_path, RUN)
    assert same is not None
    assert (same.runs, same.of, same.flops_per_s.expected) == (1, "this model", 100e12)


@pytest.mark.parametrize("changes", [{"device": "AMD EPYC x2"}, {"precision": "fp32"}])
def test_runs_on_another_device_or_in_another_precision_say_nothing(tmp_path: Path, changes: dict[str, str]) -> None:
    record(tmp_path, at(300, **changes))
    assert known(tmp_path, RUN) is None


def test_runs_without_a_rate_are_left_out(tmp_path: Path) -> None:
    for run in (replace(RUN, flops=0.0), replace(RUN, seconds=0.0), replace(RUN, flops=float("inf"))):
        record(tmp_path, run)
    assert not (tmp_path / rates.FILE).exists()


def test_a_broken_line_costs_only_itself(tmp_path: Path) -> None:
    record(tmp_path, at(400))
    with (tmp_path / rates.FILE).open("ab") as stream:
        stream.write(b'{"device": "NVIDIA H100", "mod\n[]\n{}\n\xff\xfe\n{"flops": NaN}\n')
        stream.write(b'{"adapter":"lora","device":"NVIDIA H100","flops":-1,"gpus":1,"method":"sft",')
        stream.write(b'"model":"qwen2-7-28x3584","precision":"bf16","seconds":0}\n')
    record(tmp_path, at(420))
    found = known(tmp_path, RUN)
    assert found is not None
    assert found.runs == 2


@pytest.mark.parametrize(
    "line",
    [
        canonical_json(asdict(replace(RUN, flops=1e-300, seconds=1e300))),  # divides to zero
        canonical_json(asdict(replace(RUN, flops=1e300, seconds=1e-300))),
        canonical_json({**asdict(RUN), "flops": "4e15"}),
        "[" * 200_000,
    ],
)
def test_a_line_that_no_device_can_have_written_is_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / rates.FILE).write_text(line + "\n")
    assert known(tmp_path, RUN) is None
    record(tmp_path, RUN)
    found = known(tmp_path, RUN)
    assert found is not None
    assert found.runs == 1


def test_only_the_newest_runs_count_and_a_long_file_is_read_from_its_end(tmp_path: Path) -> None:
    (tmp_path / rates.FILE).write_text("x" * rates.MAX_READ_BYTES + "\n")
    for _ in range(rates.NEWEST):
        record(tmp_path, at(100))
    for _ in range(rates.NEWEST):
        record(tmp_path, at(400))
    found = known(tmp_path, RUN)
    assert found is not None
    assert (found.runs, found.flops_per_s.low, found.flops_per_s.high) == (rates.NEWEST, 400e12, 400e12)


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=30))
def test_the_range_holds_the_median_and_what_single_outliers_cannot_move(
    tmp_path_factory: pytest.TempPathFactory, speeds: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("rates")
    for tflops in speeds:
        record(folder, at(tflops))
    found = known(folder, RUN)
    assert found is not None
    assert found.flops_per_s.low <= found.flops_per_s.expected <= found.flops_per_s.high
    assert found.runs == min(len(speeds), rates.NEWEST)
