"""What a running gateway takes up from a recipe, and what its routers keep."""

from __future__ import annotations

from largeforge.gateway.learning import as_before
from largeforge.gateway.routers import chain, classifier, keyword, rules


def test_what_was_learnt_stays_where_no_other_is_named():
    learnt = classifier.Config(path="/runs/a/classifier.npz", min_score=0.4)
    assert as_before(classifier.Config(min_score=0.9), learnt) == learnt.model_copy(update={"min_score": 0.9})
    other = classifier.Config(path="/elsewhere.npz")
    assert as_before(other, learnt) == other
    assert as_before(classifier.Config(), keyword.Config()).path == ""
    assert as_before(keyword.Config(), learnt) == keyword.Config()


def test_members_of_a_chain_keep_what_they_learnt_by_their_names():
    before = chain.Config(routers={"learnt": classifier.Config(path="/a.npz"), "words": keyword.Config()})
    after = chain.Config(
        routers={"rules": rules.Config(), "learnt": classifier.Config(), "another": classifier.Config()},
        thresholds={"learnt": 0.9},
    )
    found = as_before(after, before)
    assert found.routers["learnt"].path == "/a.npz"
    assert found.routers["another"].path == ""
    assert (found.order, found.thresholds) == (["rules", "learnt", "another"], {"learnt": 0.9})
