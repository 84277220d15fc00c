"""What a recipe may say of routing, found before anything runs."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

SERVED = ["+recipe=serve_quickstart"]
ROUTED = ["+recipe=route_quickstart"]


def recipe(*words: str):
    return validate(compose([*words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+topology.experts.support.variants.suport=0.5"], r"variants\.suport.*another expert.*mean 'support'"),
        (["+topology.experts.support.variants.support=0.5"], "must be another expert"),
        (["+topology.experts.support.variants={general: 0.6, mapper: 0.6}"], "1.2 in all"),
        (
            ["+topology.experts.support.variants.mapper=0.1", "+topology.experts.mapper.variants.general=0.1"],
            "has variants of its own",
        ),
        (["+topology.experts.support.shadow.expert=nobody"], r"shadow\.expert.*another expert"),
        (["+topology.flags.beta.share=2"], "less than or equal to 1"),
        (["+routing.gates.acuracy='>= 0.9'"], r"no such metric of routing.*Did you mean 'accuracy'"),
        (["+routing.gates.accuracy='>= 0.9'"], r"routing\.heldout_path.*is required"),
        (["+routing.gates.accuracy=high"], r"routing\.gates\.accuracy"),
        (["router=classifier"], r"routing\.path.*classifier learns from routed requests"),
        (["router=rules", "+router.rules=[{expert: suport}]"], r"router\.rules\.0\.expert.*Did you mean 'support'"),
        (["router=embedding"], r"router\.expert.*one of the two"),
        (["router=embedding", "router.expert=mapper"], "does not embed"),
        (["router=embedding", "router.url=ftp://x"], r"router\.url"),
        (["router=chain", "+router@router.routers.k=keyword", "+router.thresholds.j=0.5"], r"router\.thresholds.*'j'"),
        (["router=chain", "+router@router.routers.k=keyword", "+router.routers.k.nam=x"], r"routers\.k\.nam.*unknown"),
        (["topology.experts.mapper.task=embed"], r"adapter_on.*has a server of its own"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(words, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*SERVED, *words)


def test_files_of_an_unknown_expert_are_refused():
    with pytest.raises(RecipeError, match=r"routing\.path\.suport.*Did you mean 'support'"):
        recipe(*ROUTED, "+routing.path.suport=x.jsonl")


def test_a_router_that_learnt_before_learns_nothing_anew():
    assert recipe(*SERVED, "router=classifier", "router.path=x.npz").router.path.endswith("/x.npz")


def test_routing_is_judged_before_anything_is_served_and_once_for_the_same_files(tmp_path, monkeypatch):
    plans = []
    for text in ("a", "a", "b"):
        rows = tmp_path / "rows.jsonl"
        rows.write_text(f'{{"prompt": "{text}", "expert": "mapper"}}\n')
        plans.append(make_plan(recipe(*SERVED, f"+routing.heldout_path={rows}")))
    route, serve = plans[0].stages[-2:]
    assert (route.kind, serve.kind) == ("route", "serve")
    assert "route" in serve.needs
    prints = [plan.stages[-2].fingerprint for plan in plans]
    assert prints[0] == prints[1] != prints[2]
    assert plans[0].digest == plans[1].digest != plans[2].digest


def test_without_files_there_is_nothing_to_judge():
    assert [stage.kind for stage in make_plan(recipe(*SERVED)).stages] == ["serve"]


def test_an_embedding_expert_is_made_before_it_is_asked():
    words = [
        "+recipe=quickstart", "router=embedding", "router.expert=embedder", "+routing.heldout_path=rows.jsonl",
        "+topology.experts.embedder.model=job:general", "+topology.experts.embedder.task=embed",
    ]  # fmt: skip
    route = next(stage for stage in make_plan(recipe(*words)).stages if stage.kind == "route")
    assert route.inputs == {"job:general": "general.train"}
