"""The classifier: it learns who answers what, says how sure it is, and refuses files that are none of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from largeforge.errors import RecipeError
from largeforge.gateway.routers._features import MAX_BYTES, features
from largeforge.gateway.routers.classifier import FILE, Config, build, train
from largeforge.gateway.routing import Services
from tests.gateway.routers.asking import asked, topology

EXPERTS = topology("general", "support", "mapper")
THINGS = ("lamp", "vase", "chair", "table", "mirror", "clock", "plate", "mug")
EXAMPLES = [
    (asked(text), expert)
    for thing in THINGS
    for text, expert in (
        (f"Where is the {thing} that I ordered?", "support"),
        (f"I want to return the {thing}.", "support"),
        (f"detector={thing} score=0.93", "mapper"),
        (f'{{"detector": "{thing}", "label": "X"}}', "mapper"),
        (f"What is a {thing} made of?", "general"),
        (f"Tell me about the {thing}.", "general"),
    )
]
CONFIG = Config(epochs=30, learning_rate=1.0, bits=14, min_score=0.5)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learnt")
    train(CONFIG, EXAMPLES, folder, seed=7, progress=lambda step, total, loss: None)
    return folder / FILE


def router(learnt: Path, experts=EXPERTS, **given):
    return build(CONFIG.model_copy(update={"path": str(learnt), **given}), experts, Services())


@pytest.mark.parametrize(
    ("text", "expert"),
    [
        ("where is the SOFA that i orderd", "support"),
        ("detector=sofa score=0.93", "mapper"),
        ("Tell me about sofas.", "general"),
    ],
)
def test_it_routes_what_it_has_not_seen(learnt, text, expert):
    decision = router(learnt).choose(asked(text))
    assert decision.expert == expert
    assert decision.reason == f"classifier:{decision.score:.2f}"
    assert 0.5 <= decision.score <= 1


def test_scores_are_shares_of_all_experts_and_name_the_choice_first(learnt):
    found = router(learnt)
    scores = found.scores(asked("detector=lamp score=0.93"))
    assert set(scores) == {"general", "support", "mapper"}
    assert max(scores, key=scores.__getitem__) == "mapper"
    assert sum(scores.values()) <= 1.001


@pytest.mark.parametrize("text", ["", "   ", "我的订单在哪里", "zzz qqq"])
def test_what_is_unlike_all_it_learnt_has_no_opinion(learnt, text):
    assert router(learnt).choose(asked(text)) is None


def test_an_expert_that_is_not_served_is_not_chosen(learnt):
    assert router(learnt, topology("general", "mapper")).choose(asked("I want to return the lamp.")) is None


def test_the_same_seed_learns_the_same(learnt, tmp_path):
    train(CONFIG, EXAMPLES, tmp_path, seed=7, progress=lambda step, total, loss: None)
    one, two = np.load(learnt), np.load(tmp_path / FILE)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_it_tells_how_far_it_is(tmp_path):
    told = []
    train(Config(epochs=2, bits=10), EXAMPLES, tmp_path, seed=0, progress=lambda *given: told.append(given))
    assert told[-1][:2] == (len(told), len(told))
    assert told[-1][2] < told[0][2]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"{}"])
def test_a_file_that_is_no_classifier_is_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(RecipeError, match=r"router\.path.*is no classifier"):
        router(tmp_path / "x.npz")


def test_a_cut_off_file_is_refused(learnt, tmp_path):
    (tmp_path / "x.npz").write_bytes(learnt.read_bytes()[:-200])
    with pytest.raises(RecipeError, match="is no classifier"):
        router(tmp_path / "x.npz")


def test_no_file_and_no_known_expert_are_refused(learnt, tmp_path):
    with pytest.raises(RecipeError, match="No such file"):
        router(tmp_path / "none.npz")
    with pytest.raises(RecipeError, match="nothing is learnt yet"):
        build(Config(), EXPERTS, Services())
    with pytest.raises(RecipeError, match="knows the experts general, mapper, support"):
        router(learnt, topology("x", "y"))


def test_features_do_not_change():
    """What was learnt holds only as long as features are the same numbers."""
    assert features("Hi you", bits=16).tolist() == features("  hi   YOU ", bits=16).tolist()
    assert int(features("Hi you, где мой заказ?", bits=16).astype(np.uint64).sum()) == FEATURES
    assert len(features("x" * 10 * MAX_BYTES, bits=16)) <= MAX_BYTES


FEATURES = 1_310_414
