"""The stage that trains routers and judges routing, without servers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from largeforge.errors import DataError, GateError
from largeforge.gateway.learning import located
from largeforge.gateway.request import Request
from largeforge.gateway.routing import Services, build
from largeforge.recipe.schema import Topology
from largeforge.stages import route

TOPOLOGY = Topology.model_validate({
    "experts": {
        "general": {"model": "registry:g/1"},
        "support": {"model": "registry:s/1", "keywords": ["order", "return"], "variants": {"general": 0.5}},
        "mapper": {"model": "registry:m/1", "keywords": ["detector"]},
    },
    "fallback": "general",
})  # fmt: skip
THINGS = ("lamp", "vase", "chair", "table", "mirror", "clock", "plate", "mug")


def rows(form: str, **fields) -> list[dict]:
    return [{"prompt": form.format(thing), **fields} for thing in THINGS]


SUPPORT, MAPPER = rows("I ordered the {}, can I return it?"), rows("detector={} score=0.93")
GENERAL = [
    *rows("What is a {}?"),
    {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]},
]


class Stage:
    """The stage in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.told: list[dict] = []
        (folder / "out").mkdir()

    def file(self, name: str, content: list[dict]) -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        return str(path)

    def run(self, router: dict | str = "keyword", **routing):
        given = {"name": router} if isinstance(router, str) else router
        config = route.Config.model_validate({
            "topology": TOPOLOGY.model_dump(), "router": given, "routing": routing, "serving": {}, "registry": {},
            "device": "cpu", "seed": 3,
        })  # fmt: skip
        events = SimpleNamespace(emit=lambda kind, **fields: self.told.append({"kind": kind, **fields}))
        context = SimpleNamespace(
            stage="route", inputs={}, out=self.folder / "out", work=self.folder, events=events, lock=""
        )
        return config, route.run(config, context)

    @property
    def report(self) -> dict:
        return json.loads((self.folder / "out" / "routing.json").read_text())

    @property
    def heldout(self) -> dict[str, str]:
        return {
            "general": self.file("g.jsonl", GENERAL),
            "support": self.file("s.jsonl", SUPPORT),
            "mapper": self.file("m.jsonl", MAPPER),
        }


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_routing_is_measured_by_the_gateways_own_router_and_without_variants(stage):
    _, result = stage.run(heldout_path=stage.heldout)
    assert result.metrics["routing.accuracy"] == 1
    assert result.metrics["routing.decided"] == pytest.approx(16 / 25)
    assert stage.report["confusions"] == {"general": {"general": 9}, "mapper": {"mapper": 8}, "support": {"support": 8}}
    tables = [told for told in stage.told if told["kind"] == "table"]
    assert ["accuracy", 1.0, "0.8668 to 1", 25] in tables[0]["rows"]
    assert tables[1]["rows"][2] == ["support", 0, 0, 8]


def test_gates_pass_and_are_kept(stage):
    gates = {"accuracy": ">= 0.8", "recall.mapper": "> 0.6", "precision.mapper": "> 0.6"}
    _, result = stage.run(heldout_path=stage.heldout, gates=gates)
    assert [gate["metric"] for gate in result.info["gates"]] == [
        "routing.accuracy", "routing.recall.mapper", "routing.precision.mapper",
    ]  # fmt: skip
    assert [told["passed"] for told in stage.told if told["kind"] == "gate"] == [True] * 3


def test_a_gate_refuses_with_what_went_wrong_where(stage):
    rows = [*SUPPORT[:4], {"prompt": "Can I have my money back?"}, {"prompt": "The detector that I ordered"}]
    heldout = {**stage.heldout, "support": stage.file("s.jsonl", rows)}
    with pytest.raises(
        GateError, match=r"nothing is served: routing\.accuracy is 0\.9\d+ .* must be >= 0\.99"
    ) as refused:
        stage.run(heldout_path=heldout, gates={"accuracy": ">= 0.99", "recall.support": ">= 0.7"}, by="value")
    assert refused.value.exit_code == 3
    assert "recall.support is 0.6667" in str(refused.value)
    (mistake,) = stage.report["mistakes"][1:]
    assert mistake["text"] == "Can I have my money back?"
    assert mistake["chosen"] == "general"


def test_too_few_requests_say_so(stage):
    with pytest.raises(GateError, match=r"not enough data .*routing\.by=value"):
        stage.run(heldout_path=stage.heldout, gates={"accuracy": ">= 0.99"})


def test_an_expert_without_requests_cannot_pass(stage):
    with pytest.raises(GateError, match=r"recall\.mapper is unknown, .*no held-out request belongs"):
        stage.run(heldout_path={"support": stage.heldout["support"]}, gates={"recall.mapper": ">= 0"})


def test_what_learns_is_trained_wherever_it_stands_and_found_again(stage):
    small = {"name": "classifier", "epochs": 20, "learning_rate": 1.0, "bits": 12}
    chain = {"name": "chain", "routers": {"words": {"name": "keyword"}, "learnt": small}, "order": ["learnt", "words"]}
    config, result = stage.run(chain, path=stage.heldout, heldout_path=stage.heldout, gates={"accuracy": "> 0.8"})
    assert result.metrics["routing.decided"] > 0.9
    progress = [told for told in stage.told if told["kind"] == "progress"]
    assert progress[0]["loss"] < 0.5
    router = build(located(config.router, stage.folder / "out"), TOPOLOGY, Services())
    decision = router.choose(Request("completion", "auto", {"prompt": "detector=sofa score=0.1"}, b""))
    assert (decision.expert, decision.reason.partition(":")[0]) == ("mapper", "classifier")


def test_rows_say_themselves_whose_they_are_and_bring_headers_and_tools(stage):
    rules = {"name": "rules", "rules": [
        {"expert": "mapper", "when": {"headers": {"x-plan": "gold"}}},
        {"expert": "support", "when": {"has_tools": True}},
    ]}  # fmt: skip
    tools = [{"type": "function", "function": {"name": "f"}}]
    path = stage.file("rows.jsonl", [
        {"prompt": "a", "expert": "mapper", "headers": {"X-Plan": "gold"}},
        {"messages": [{"role": "user", "content": "a"}], "tools": tools, "expert": "support"},
        {"prompt": [{"role": "user", "content": "a"}], "expert": "general"},
    ])  # fmt: skip
    _, result = stage.run(rules, heldout_path=[path])
    assert result.metrics["routing.accuracy"] == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "x"}', "has no expert"),
        ('{"prompt": "x", "expert": "suport"}', "no expert of the topology.*Did you mean 'support'"),
        ('{"expert": "support"}', "is no request: 'prompt' is missing"),
        ('{"messages": [], "expert": "support"}', "'messages' is empty"),
        ('{"prompt": "x", "expert": "support", "headers": {"a": 1}}', "headers that are not text"),
        ("{", "cannot be read"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(stage, row, reason):
    path = stage.folder / "rows.jsonl"
    path.write_text(f'{{"prompt": "x", "expert": "support"}}\n{row}\n')
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: the row .*{reason}"):
        stage.run(heldout_path=str(path))


def test_there_must_be_two_experts_to_tell_apart(stage):
    with pytest.raises(DataError, match="fewer than two"):
        stage.run("classifier", path={"support": stage.heldout["support"]})
