"""Where the answer begins, turn by turn, and what is refused; without transformers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from largeforge.data.faults import RowError
from largeforge.tokens import parts, rows
from largeforge.tokens.engine import FastEngine, Rendered, Spec, common
from largeforge.tokens.parts import Wanted
from largeforge.tokens.template import sha256
from tests.tokens.tokenizers import FORGETFUL, MARKED, MISTRAL, SPECIAL, STYLES, byte_level, metaspace

CORES = {"bytes": byte_level(SPECIAL).to_str(), "metaspace": metaspace(SPECIAL).to_str()}
USER = {"role": "user", "content": "Where is my order?"}
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nOn its way."}


def engine(template: Any, *, core: str = "bytes", training_template: str = "") -> FastEngine:
    variables = {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    return FastEngine(Spec(CORES[core], template, training_template, variables))


def learnt(made: FastEngine, rendered: Rendered) -> list[str]:
    """Return the texts that are learnt."""
    tokens = made.encode([rendered])[0]
    return [made._tokenizer.decode(tokens.ids[a:b], skip_special_tokens=False) for a, b in tokens.learnt]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_need_not_be_tokenized_to_know_its_tokens(style: str, core: str) -> None:
    made = engine(STYLES[style], core=core)
    pick = random.Random(style)
    pieces = ["\n", " ", "a", "Hello", "<|im_start|>", "[/INST]", "<s>", "##", "é", "\n\n", "assistant"]
    for _ in range(100):
        question, answer = ("".join(pick.choices(pieces, k=pick.randint(0, 5))) for _ in range(2))
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rendered = made.answered(messages[:1], messages[1:], None)
        found = made.encode([rendered])[0]
        assert rendered.prompt is not None
        prompt = made._tokenizer.encode(rendered.prompt, add_special_tokens=False).ids
        assert found.prompt_length == common(prompt, found.ids)
        assert found.overhang == len(prompt) - found.prompt_length


def test_every_answer_is_learnt_with_and_without_marks() -> None:
    plain = [USER, {"role": "assistant", "content": "One."}, USER, {"role": "assistant", "content": "Two."}]
    for template in (STYLES["chatml"], MARKED):
        made = engine(template)
        ended = "" if template == MARKED else "\n"
        assert learnt(made, made.turns(plain, None)) == [f"One.<|im_end|>{ended}", f"Two.<|im_end|>{ended}"]
    known = engine(STYLES["chatml"], training_template=MARKED)
    assert learnt(known, known.turns(plain, None)) == ["One.<|im_end|>", "Two.<|im_end|>"]


def test_a_template_that_forgets_is_refused_by_turn_and_learns_the_last_answer() -> None:
    made = engine(FORGETFUL)
    with pytest.raises(RowError, match=r"message 1 \(assistant\): the chat template writes it differently"):
        made.turns([USER, ANSWER, USER, ANSWER], None)
    assert learnt(made, made.turns([USER, ANSWER], None)) == [f"{ANSWER['content']}<|im_end|>\n"]
    last = made.answered([USER, ANSWER, USER], [ANSWER], None)
    assert learnt(made, last) == [f"{ANSWER['content']}<|im_end|>\n"]


def test_what_a_template_refuses_is_told_in_its_words() -> None:
    with pytest.raises(RowError, match="the chat template refuses it: Conversation roles must alternate"):
        engine(MISTRAL).whole([USER, USER], None)
    with pytest.raises(RowError, match="the chat template fails: UndefinedError"):
        engine("{{ messages[0].nothing.at_all }}").whole([USER], None)
    with pytest.raises(RowError, match="the chat template is broken"):
        engine("{% if %}").whole([USER], None)


def test_templates_by_name_follow_the_tools() -> None:
    made = engine({"default": "plain", "tool_use": "tools"})
    assert made.whole([USER], None).text == "plain"
    assert made.whole([USER], [{"name": "x"}]).text == "tools"


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(RowError, match=r"SecurityError|UndefinedError"):
        engine("{{ messages.__class__.__mro__[1].__subclasses__() }}").whole([USER], None)
    with pytest.raises(RowError, match="SecurityError"):
        engine("{{ messages.append(1) }}").whole([USER], None)


def test_the_hash_is_that_of_the_file() -> None:
    assert sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def lines(*items: dict[str, Any]) -> list[bytes]:
    return [json.dumps({**item, "source": f"f:{number}"}).encode() for number, item in enumerate(items, 1)]


def test_bad_and_long_rows_are_set_aside_with_their_source() -> None:
    made = engine(MISTRAL)
    found = parts.tokenize(
        lines(
            {"messages": [USER, {"role": "assistant", "content": "Yes."}]},
            {"messages": [USER, USER, {"role": "assistant", "content": "Yes."}]},
            {"messages": [USER, {"role": "assistant", "content": "Yes. " * 50}]},
        ),
        made, Wanted("sft", "completion", 40),
    )  # fmt: skip
    assert [source for source, _ in found.bad] == ["f:2"]
    assert [source for source, _ in found.too_long] == ["f:3"]
    assert len(found.lengths) == 2
    assert len(found.sizes[0]) == 1


def test_labels_are_ignored_where_nothing_is_learnt() -> None:
    made = engine(STYLES["chatml"])
    tokens = made.encode([made.answered([USER], [{"role": "assistant", "content": "Yes."}], None)])[0]
    labels = rows.labels(tokens)
    assert set(labels[: tokens.prompt_length]) == {rows.IGNORED}
    assert list(labels[tokens.prompt_length :]) == tokens.ids[tokens.prompt_length :]


def test_an_answer_that_the_template_leaves_out_is_refused() -> None:
    silent = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    answer = [{"role": "assistant", "content": "Yes."}]
    found = parts.tokenize(lines({"messages": [USER, *answer]}), engine(silent), Wanted("sft", "completion", 0))
    assert "nothing of it is learnt" in found.bad[0][1]
    pair = {"prompt": [USER], "chosen": answer, "rejected": [{"role": "assistant", "content": "No."}]}
    found = parts.tokenize(lines(pair), engine(silent), Wanted("preference", "all", 0))
    assert "an answer has no tokens of its own" in found.bad[0][1]
