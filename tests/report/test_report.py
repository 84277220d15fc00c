"""The report: complete, self-contained, and harmless whatever a run left behind."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from largeforge import report
from tests.fakes import trained

EVENTS = Path(__file__).parent.parent / "console" / "quickstart.jsonl"
VOID = {"meta", "link", "br", "img", "input"}
HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&\x00\x1b[31m\u202e"


class Page(HTMLParser):
    """A strict reading of a page: every element closed in order, texts and attributes gathered."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.elements if tag == "section"]


def event(kind: str, time: float = 0.0, stage: str = "general.train", **fields: Any) -> dict[str, Any]:
    return {"time": 1763690000.0 + time, "stage": stage, "kind": kind, **fields}


def page_of(run_dir: Path, *events: dict[str, Any]) -> Page:
    if events:
        (run_dir / "events.jsonl").write_text("".join(json.dumps(item) + "\n" for item in events))
    path = report.write(run_dir)
    assert path == run_dir / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run as the runner leaves it."""
    shutil.copy(EVENTS, tmp_path / "events.jsonl")
    stages = json.loads(EVENTS.read_text().splitlines()[0])["stages"]
    plan = [{"name": name, "kind": name.rpartition(".")[2], "title": name, "inputs": []} for name in stages]
    (tmp_path / "plan.json").write_text(json.dumps({"stages": plan}))
    lock = {"digest": "3f9ac2d1", "seed": 42, "packages": {"torch": "2.11.0"}, "hardware": {"gpus": [{"name": "H200"}]}}
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    (tmp_path / "recipe.yaml").write_text("name: quickstart\nseed: 42\n")
    for name in stages:
        manifest = {
            "stage": name,
            "fingerprint": f"print-of-{name}",
            "seconds": 1.5,
            "files": {"a.bin": {"size": 2**20}},
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_it_tells_the_whole_run(run_dir: Path) -> None:
    page = page_of(run_dir)
    assert page.sections == [
        *("stages", "training", "evaluation", "answers", "models", "next", "tables", "environment", "recipe")
    ]
    for words in (
        *("quickstart", "Train three small models", "✓ finished", "1 min 18 s", "14 of 14", "✗ 6 of 7", "3f9ac2d1"),
        *("21 November 2025, 01:53 UTC", "1,214,464 parameters", "print-of-mapper.train", "1, 1.0 MiB"),
        *("exact_match", "0.942", "needs >= 0.9", "✓ passed", "✗ failed", "heldout_loss", "-6.656"),
        *("What is the capital of Portugal?", "Lisbon.", "streamed", "85 ms", "registry:quickstart-mapper/3"),
        *("python -m largeforge +recipe=quickstart serve=true", "gpus.0.name H200", "torch 2.11.0", "seed: 42"),
    ):
        assert words in page.text, words


def test_nothing_is_fetched_and_only_its_own_script_runs(run_dir: Path) -> None:
    page = page_of(run_dir)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert value.startswith("#") or value in ("", "data:,"), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes)
    html = (run_dir / "report.html").read_text()
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    assert "@import" not in styles and "url(" not in styles
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "default-src 'none'" in html and re.search(r"script-src 'sha256-[\w+/]+=*'", html)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "stage").mkdir(parents=True)
    hostile: dict[str, Any] = {HOSTILE: HOSTILE, "deep": [{HOSTILE: [HOSTILE, None, {}]}]}
    for name in ("plan.json", "lock.json", "stage/manifest.json"):
        (run_dir / name).write_text(
            json.dumps({**hostile, "digest": HOSTILE, "stages": [{"name": HOSTILE, "kind": HOSTILE}], "info": hostile})
        )
    (run_dir / "recipe.yaml").write_text(HOSTILE)
    page = page_of(
        run_dir,
        event(
            "run_started",
            stage="",
            recipe=HOSTILE,
            description=HOSTILE,
            run_dir=HOSTILE,
            stages=[HOSTILE],
            digest=HOSTILE,
        ),
        event("started", stage=HOSTILE, title=HOSTILE, command=HOSTILE),
        event("note", stage=HOSTILE, text=HOSTILE),
        event("progress", stage=HOSTILE, step=1, total=2, loss=1.0, unit=HOSTILE, metrics={HOSTILE: 1}),
        event("eval", stage=HOSTILE, step=1, metrics={HOSTILE: 0.5, "eval_loss": HOSTILE}),
        event("checkpoint", stage=HOSTILE, step=1, path=HOSTILE, best=HOSTILE),
        event("sample", stage=HOSTILE, step=1, prompt=HOSTILE, text=HOSTILE, reference=HOSTILE),
        event("table", stage=HOSTILE, title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE], [hostile]]),
        event("gate", stage=HOSTILE, metric=HOSTILE, condition=HOSTILE, value=HOSTILE, passed=HOSTILE),
        event(
            "answer", stage=HOSTILE, client=HOSTILE, expert=HOSTILE, prompt=HOSTILE, text=HOSTILE, latency_ms=HOSTILE
        ),
        event("result", stage=HOSTILE, metrics=hostile, info={**hostile, "version": HOSTILE}),
        event("failed", stage=HOSTILE, error=HOSTILE),
        event("run_finished", stage="", next=[{"text": HOSTILE, "command": HOSTILE}], error=HOSTILE, run_dir=HOSTILE),
    )
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1 and "img" not in tags
    assert page.text.count("<script>alert(1)</script>") > 20
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", (run_dir / "report.html").read_text())


def test_a_gate_passes_only_when_it_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, event("gate", metric="exact_match", condition="> 0", value=1, passed="true"))
    assert "✗ failed" in page.text and "passed" not in page.text


def test_an_empty_run_directory_still_gives_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.sections == [] and "unfinished" in page.text


@pytest.mark.parametrize(
    "missing", ["events.jsonl", "plan.json", "lock.json", "recipe.yaml", "mapper.train/manifest.json"]
)
def test_any_file_may_be_missing(run_dir: Path, missing: str) -> None:
    (run_dir / missing).unlink()
    assert "mapper.train" in page_of(run_dir).text


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "null", "{", "[" * 100_000, '{"stages": 3, "seconds": "x"}', "\udcff"]
)
@pytest.mark.parametrize("name", ["events.jsonl", "plan.json", "lock.json", "mapper.train/manifest.json"])
def test_any_file_may_be_broken(run_dir: Path, name: str, content: str) -> None:
    (run_dir / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "mapper.train" in page_of(run_dir).text


def test_events_may_end_in_half_a_line(run_dir: Path) -> None:
    whole = EVENTS.read_bytes()
    (run_dir / "events.jsonl").write_bytes(whole[: len(whole) // 2])
    assert "training" in page_of(run_dir).sections


@pytest.mark.parametrize("loss", ["nan", "inf", None, "x", 10**400, 1.7e308])
def test_a_loss_that_is_not_finite_is_reported(tmp_path: Path, loss: Any) -> None:
    steps = [
        event("progress", step, step=step, total=5, loss=loss if step == 3 else 1.0 / step) for step in range(1, 6)
    ]
    assert "1 of 5 reports had no finite loss" in page_of(tmp_path, *steps).text
    assert "No step had a finite loss" in page_of(tmp_path, steps[2]).text


def test_what_was_planned_stands_beside_what_was_measured(run_dir: Path) -> None:
    plan = json.loads((run_dir / "plan.json").read_text())
    plan["forecasts"] = {"mapper.train": {"peak_gib": 1.5, "hours": [0.01, 0.02, 0.03]}}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    manifest = json.loads((run_dir / "mapper.train" / "manifest.json").read_text())
    manifest["metrics"] = {"peak_memory_gib": 1.25}
    (run_dir / "mapper.train" / "manifest.json").write_text(json.dumps(manifest))
    (run_dir / "events.jsonl").unlink()
    page = report.write(run_dir).read_text()
    assert "1.50 GiB" in page
    assert "1.25 GiB" in page
    assert "36.0 s to 1 min 48 s" in page


def test_a_training_is_shown_with_all_its_figures(tmp_path: Path) -> None:
    page = page_of(
        tmp_path, trained.started("train"), *trained.training(), trained.event("finished", 515, seconds=505.0)
    )
    assert page.sections == ["stages", "training", "samples"]
    titles = [text for text in page.texts if text in ("Gradient norm", "MFU", "GPU use", "Memory in GiB", "entropy")]
    assert titles == ["Gradient norm", "MFU", "GPU use", "Memory in GiB", "entropy"]
    for words in ("Cost of training $0.50", "61.2 of 79.2 GiB at the peak", "held out, last 0.937", "best checkpoint"):
        assert words in page.text, words
    curve = next(json.loads(a["data-curve"] or "") for _, a in page.elements if "data-curve" in a)
    assert "held out 0.937  learning rate 3.99e-8  gradient norm 1.083  12.1k tok/s  MFU 41%" in curve["text"][-1]
    classes = [attributes.get("class") for tag, attributes in page.elements if tag in ("line", "path")]
    assert (classes.count("saved"), classes.count("saved best")) == (4, 1)
    assert classes.count("heldout point") == 20, "ten evaluations of two metrics"


def test_answers_during_a_training_can_be_followed_step_by_step(tmp_path: Path) -> None:
    first, later = trained.training(until=300), trained.training(at=1000.0)
    repeated = [one for one in later if one["kind"] == "started" or one.get("step", 0) > 200]
    page = page_of(tmp_path, trained.started("train"), *first, trained.started("train"), *repeated)
    assert page.text.count("5 answers, steps 100 to 500") == 2
    assert page.text.count("Answer 1 after 300 steps.") == 1, "a resumed training repeats its steps"
    assert page.text.count("Answer 2 after 500 steps.") == 2, "the newest stands open and in its history"
    assert "expected The answer 1." in page.text


def test_a_reused_training_costs_nothing_again(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in trained.training()))
    manifest = {"stage": "train", "kind": "train", "seconds": 5.0, "reused_from": "r/1/train"}
    (tmp_path / "train" / "manifest.json").write_text(json.dumps(manifest))
    page = page_of(tmp_path, trained.event("finished", 1, seconds=0.0, reused=True))
    assert "training" in page.sections and "samples" in page.sections
    assert "Cost of training" not in page.text


def test_one_point_is_a_curve(tmp_path: Path) -> None:
    page = page_of(tmp_path, event("progress", step=1, total=1, loss=2.5))
    assert "step 1 loss 2.500" in page.text


def test_a_long_training_stays_a_small_page(tmp_path: Path) -> None:
    page_of(tmp_path, *[event("progress", n, step=n, loss=1 / (n + 1), learning_rate=1e-4) for n in range(30_000)])
    assert (tmp_path / "report.html").stat().st_size < 200_000


def test_a_resumed_training_shows_each_step_once_and_no_night_between(tmp_path: Path) -> None:
    night = 10 * 3600
    page = page_of(
        tmp_path,
        event("run_started", stage="", recipe="r", stages=["general.train"]),
        event("started", 1),
        *[event("progress", step, step=step, total=40, loss=9.0) for step in range(2, 31)],
        event("failed", 31, error="power cut"),
        event("run_failed", 32, stage="", error="power cut", exit_code=1, resume_command="again"),
        event("run_started", night, stage="", recipe="r", stages=["general.train"]),
        event("started", night + 1),
        *[event("progress", night + step - 19, step=step, total=40, loss=4.0) for step in range(20, 41)],
        event("finished", night + 22, seconds=21.0),
        event("run_finished", night + 23, stage="", seconds=23.0),
    )
    assert "✓ finished" in page.text and "Attempts 2" in page.text and "55.0 s" in page.text
    assert [attributes.get("class") for tag, attributes in page.elements if tag == "rect"] == [
        "failed training",
        "done training",
    ]
    curve = next(json.loads(a["data-curve"] or "") for _, a in page.elements if "data-curve" in a)
    assert len(curve["x"]) == 39 and "loss 4 " in curve["text"][18]


def test_outcomes_are_told_apart(tmp_path: Path) -> None:
    for code, word in ((1, "✗ failed"), (3, "✗ refused by a gate"), (130, "✗ interrupted")):
        page = page_of(tmp_path, event("run_failed", stage="", error="why", exit_code=code, resume_command="go on"))
        assert word in page.text and "why" in page.text and "go on" in page.text


def test_manifests_alone_show_what_was_made(run_dir: Path) -> None:
    for name in ("events.jsonl", "plan.json"):
        (run_dir / name).unlink()
    assert "14 of 14" in page_of(run_dir).text


def test_a_failed_write_leaves_the_old_report(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = report.write(run_dir).read_text()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(run_dir)
    assert (run_dir / "report.html").read_text() == before
    assert [path.name for path in run_dir.glob("*.html")] == ["report.html"]
    assert list(run_dir.glob(".report-*")) == []


def test_a_reused_stage_shows_the_curve_and_the_table_of_the_run_that_it_comes_from(tmp_path: Path) -> None:
    stage = tmp_path / "general.train"
    stage.mkdir()
    recorded = [event("progress", step, step=step, total=3, loss=4.0 - step) for step in range(1, 4)]
    recorded.append(event("table", 4, title="held-out", columns=["metric", "model"], rows=[["loss", 1.25]]))
    (stage / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in recorded))
    manifest = {"stage": "general.train", "kind": "train", "seconds": 5.0, "reused_from": "r/1/general.train"}
    (stage / "manifest.json").write_text(json.dumps(manifest))
    page = page_of(tmp_path, event("finished", 1, seconds=0.0, reused="r/1/general.train"))
    curve = next(json.loads(a["data-curve"] or "") for _, a in page.elements if "data-curve" in a)
    assert len(curve["x"]) == 3
    assert "1.250" in page.text


def test_a_load_test_is_drawn_over_its_rates(tmp_path: Path) -> None:
    steps = [
        {"requests_per_second": rate, "sent": 20.0, "failed": 1.0, "ttft_p50_ms": 10.0 * rate,
         "ttft_p95_ms": 40.0 * rate, "e2e_p50_ms": None, "goodput_share": 0.95, "sent_per_s": rate}
        for rate in (2.0, 4.0)
    ]  # fmt: skip
    told = event(
        "table", stage="serve", title="Load test", columns=["requests/s"], rows=[[2.0], [4.0]], load_test=steps
    )
    page = page_of(tmp_path, event("started", stage="serve"), told, event("finished", 9, stage="serve"))
    assert "load" in page.sections
    assert "tables" not in page.sections, "it stands in its own section only"
    labels = [attributes.get("aria-label") or "" for _, attributes in page.elements]
    assert "Time to first token over requests per second, at the highest rate 40 ms, 160 ms" in labels
    assert "Goodput over requests per second, at the highest rate 95%" in labels
    assert not [label for label in labels if label.startswith("Whole answer")], "nothing is known of it"


@pytest.mark.parametrize("steps", [None, 7, [None], [{"requests_per_second": HOSTILE}], [{"requests_per_second": 1}]])
def test_a_broken_load_test_breaks_no_page(tmp_path: Path, steps: Any) -> None:
    told = event("table", stage=HOSTILE, title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]], load_test=steps)
    page = page_of(tmp_path, told)
    assert "alert(1)" not in "".join(tag for tag, _ in page.elements)
    assert [tag for tag, _ in page.elements if tag == "script"] == ["script"]
