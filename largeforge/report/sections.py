"""The report's sections on what a run did: outcome, stages, judgements, answers, models."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from largeforge.console.text import clean, clock, dollars, duration, finite
from largeforge.report import charts
from largeforge.report.html import command, esc, esc_lines, event_table, mark, pairs, section, table, value
from largeforge.report.read import mapping
from largeforge.report.training import spent

if TYPE_CHECKING:
    from largeforge.report.facts import Facts, Stage

_NO_WORD = "–"


def header(facts: Facts) -> str:
    """Return the head of the page: what was run, when, how long, and how it ended."""
    gates = [gate for stage in facts.stages for gate in stage.gates]
    num_passed = sum(gate.get("passed") is True for gate in gates)
    done = sum(stage.state in ("done", "reused") for stage in facts.stages)
    reused = sum(stage.state == "reused" for stage in facts.stages)
    verdict = "unfinished" if facts.outcome == "unfinished" else mark(facts.outcome == "finished", facts.outcome)
    tiles = [
        ("Outcome", verdict),
        ("Took", escape(duration(facts.seconds))),
        (
            "Stages",
            f"{done} of {len(facts.stages)}" + (f'<small class="muted"> {reused} reused</small>' if reused else ""),
        ),
        ("Cost of training", dollars(cost) if (cost := spent(facts)) is not None else ""),
        ("Gates", mark(num_passed == len(gates), f"{num_passed} of {len(gates)}") if gates else ""),
        ("Questions answered", str(sum(len(stage.answers) for stage in facts.stages) or "")),
    ]
    rest = pairs(
        [
            ("Started", _date(facts.began)),
            ("Attempts", str(facts.num_attempts) if facts.num_attempts > 1 else ""),
            ("Run directory", f"<code>{esc(facts.run_dir)}</code>"),
            ("Digest", f"<code>{esc(facts.digest)}</code>" if facts.digest else ""),
        ]
    )
    error = f'<pre class="error">{esc_lines(facts.error)}</pre>' if facts.error else ""
    lead = f'<p class="lead">{esc(facts.description)}</p>' if facts.description else ""
    boxes = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in tiles if text)
    return (
        f'<header><p class="eyebrow">LargeForge run</p><h1>{esc(facts.recipe)}</h1>{lead}'
        f'<dl class="tiles">{boxes}</dl>{error}{rest}</header>'
    )


def _date(time: float | None) -> str:
    if time is None:
        return ""
    try:
        moment = datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f'<time datetime="{moment.isoformat(timespec="seconds")}">{moment:%d %B %Y, %H:%M} UTC</time>'


def stages(facts: Facts) -> str:
    """Return the timeline; each stage opens to what it left."""
    total = max([facts.seconds, *[attempt.end for stage in facts.stages for attempt in stage.attempts]])
    rows = "".join(_stage(stage, total) for stage in facts.stages)
    if not rows:
        return ""
    has_bars = any(stage.attempts for stage in facts.stages)
    axis = f'<div class="row">{charts.time_axis(total, clock if total >= 1 else duration)}</div>' if has_bars else ""
    note = "Open a stage to see what it left."
    return section("stages", "Stages", f'<div class="timeline">{rows}{axis}</div>', note=note)


def _stage(stage: Stage, total: float) -> str:
    took = duration(stage.seconds) if stage.seconds is not None else ""
    words = {"done": took, "reused": "reused", "waiting": "not run"}
    word = words.get(stage.state, f"{stage.state} {took}".strip())
    kind = " training" if stage.progress else ""
    bars = [(attempt.start, attempt.end, attempt.state + kind) for attempt in stage.attempts]
    spans = ", ".join(f"{duration(start)} to {duration(end)}" for start, end, _ in bars)
    bar = charts.time_bars(bars, total, label=f"{clean(stage.name)}: {word}, {spans}") if bars else ""
    sign = {"failed": "✗ ", "unfinished": "… "}.get(stage.state, "")
    summary = (
        f'<span class="row"><span class="name">{esc(stage.name)}</span><span class="bars">{bar}</span>'
        f'<span class="took {stage.state}">{sign}{escape(word)}</span></span>'
    )
    return f"<details><summary>{summary}</summary>{_stage_body(stage)}</details>"


def _stage_body(stage: Stage) -> str:
    files = mapping(stage.manifest.get("files"))
    size = sum(finite(mapping(entry).get("size")) or 0.0 for entry in files.values())
    about = [
        ("What", esc(stage.title)),
        *[(str(name), value(item)) for name, item in [*stage.metrics.items(), *stage.info.items()]],
        ("Files", f"{len(files)}, {size / 2**20:.1f} MiB" if files else ""),
        ("Fingerprint", f"<code>{esc(stage.manifest.get('fingerprint') or '')}</code>" if stage.manifest else ""),
        ("Reused from", esc(stage.manifest.get("reused_from") or "")),
    ]
    notes = "".join(f"<li>{esc(note)}</li>" for note in stage.notes)
    error = f'<pre class="error">{esc_lines(stage.error)}</pre>' if stage.error else ""
    listed = f'<ul class="notes">{notes}</ul>' if notes else ""
    body = f"{error}{pairs(about)}{listed}{command(stage.command)}"
    return f'<div class="stage">{body or "<p>Nothing is known of this stage yet.</p>"}</div>'


def other_tables(facts: Facts) -> str:
    """Return the tables of stages that do not judge: data, placement and the like."""
    cards = "".join(
        f'<div class="card"><h3>{esc(stage.name)}</h3>{"".join(map(event_table, stage.tables))}</div>'
        for stage in facts.stages
        if stage.tables and not stage.gates and stage.kind != "evaluate"
    )
    return section("tables", "Tables", f'<div class="flow">{cards}</div>' if cards else "")


def answers(facts: Facts) -> str:
    """Return the questions that the finished deployment was asked."""
    items = "".join(_answer(answer) for stage in facts.stages for answer in stage.answers)
    return section("answers", "Questions and answers", f'<ol class="answers">{items}</ol>' if items else "")


def _answer(answer: dict[str, Any]) -> str:
    latency = finite(answer.get("latency_ms"))
    about = [esc(answer.get("expert") or _NO_WORD), esc(answer.get("client") or "")]
    about += ["streamed"] if answer.get("stream") is True else []
    about += [f"{latency:.0f} ms"] if latency is not None else []
    chips = "".join(f"<span>{text}</span>" for text in about if text)
    return (
        f'<li class="card"><p class="prompt">{esc_lines(answer.get("prompt") or "")}</p>'
        f'<p class="answer">{esc_lines(answer.get("text") or "")}</p><p class="chips">{chips}</p></li>'
    )


def models(facts: Facts) -> str:
    """Return the models that were registered, with whatever the stage said of them."""
    infos = [
        stage.info for stage in facts.stages if stage.info and (stage.kind == "register" or "version" in stage.info)
    ]
    columns = [str(key) for key in dict.fromkeys(key for info in infos for key in info)]
    rows = [[info.get(column, "") for column in columns] for info in infos]
    return section("models", "Registered models", table(columns, rows))
