"""Write the data of the quickstart recipe: JSONL files of short conversations.

    python recipes/data/make_quickstart.py            # write recipes/data/quickstart/
    python recipes/data/make_quickstart.py --check    # compare, exit 1 on a difference

The words live in vocabulary/*.toml; this script combines them. The same seed gives the
same bytes. It does not train, and it downloads nothing.

What is held out: for `mapper` every combination of detector, alias and form of finding,
with any score; for `support` the sentence itself, with any opening and closing; for
`general` the prompt. All of them are unseen combinations of words that were seen.
"""

import argparse
import itertools
import json
import random
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SEED = 20

NUM_MAPPER_TRAIN = 5000
NUM_MAPPER_HELDOUT = 300
NUM_SUPPORT_TRAIN = 3000
NUM_SUPPORT_HELDOUT = 264
NUM_GENERAL = {"chat": 800, "article": 600, "readback": 1400, "glossary": 1700, "shop": 400, "synonym": 300}
GENERAL_HELDOUT_SHARE = 0.035


@dataclass(frozen=True)
class Row:
    """One question and its answer."""

    prompt: str
    answer: str

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        messages = [
            {"role": "user", "content": self.prompt},
            {"role": "assistant", "content": self.answer},
        ]
        return json.dumps({"messages": messages}, ensure_ascii=False)


@dataclass(frozen=True)
class Alias:
    """A name that detectors use for a taxonomy label, and one detector's spelling of it."""

    label: str
    words: str
    detector: str
    written: str


Finding = tuple[Alias, str]  # what was found, and the form in which it is written
Words = dict[str, Any]  # a vocabulary file


def build_datasets(vocabulary: Path = HERE / "vocabulary") -> dict[str, list[Row]]:
    """Return the rows of every file, by the file's name."""
    words = {
        name: tomllib.loads((vocabulary / f"{name}.toml").read_text("utf-8"))
        for name in ("mapper", "support", "general")
    }
    aliases = list(spell_aliases(words["mapper"]))
    seen, unseen = split_findings(words["mapper"], aliases)
    mapper_train, mapper_heldout = build_mapper(words["mapper"], seen, unseen)
    support_train, support_heldout = build_support(words["support"])
    general, general_heldout = build_general(words, aliases, seen)
    datasets = {
        "general": general,
        "general_heldout": general_heldout,
        "mapper_train": mapper_train,
        "mapper_heldout": mapper_heldout,
        "support_train": support_train,
        "support_heldout": support_heldout,
    }
    check_contamination(datasets)
    return datasets


def split_findings(words: Words, aliases: list[Alias]) -> tuple[list[Finding], list[Finding]]:
    """Return the pairs of alias and form that may be trained on, and those held out."""
    pairs = list(itertools.product(aliases, words["findings"]))
    random.Random(f"{SEED} findings").shuffle(pairs)
    return pairs[NUM_MAPPER_HELDOUT:], pairs[:NUM_MAPPER_HELDOUT]


def build_mapper(words: Words, seen: list[Finding], unseen: list[Finding]) -> tuple[list[Row], list[Row]]:
    """Return train and held-out rows: a detector's finding to a taxonomy label."""
    rng = random.Random(f"{SEED} mapper")
    train, heldout = (
        [Row(ask(rng, words, "requests", alias, form), answer_label(alias.label)) for alias, form in pairs]
        for pairs in (seen[:NUM_MAPPER_TRAIN], unseen)
    )
    return train, heldout


def build_support(words: Words) -> tuple[list[Row], list[Row]]:
    """Return train and held-out rows: a customer's question to the shop's answer."""
    rng = random.Random(f"{SEED} support")
    train, heldout = [], []
    share = NUM_SUPPORT_TRAIN // len(words["intent"]) + 1
    for intent in words["intent"]:
        sentences = expand_all(intent["questions"])
        rng.shuffle(sentences)
        num_heldout = NUM_SUPPORT_HELDOUT // len(words["intent"])
        unseen, seen = split_sentences(sentences)
        heldout += sample_framed(rng, words, unseen, intent["answer"], num_heldout)
        train += sample_framed(rng, words, seen, intent["answer"], share)
    rng.shuffle(train)
    rng.shuffle(heldout)
    return train[:NUM_SUPPORT_TRAIN], heldout


def split_sentences(sentences: list[str]) -> tuple[list[str], list[str]]:
    """Return the sentences to hold out, about one in six, and the others."""
    num_unseen = max(2, len(sentences) // 6)
    return sentences[:num_unseen], sentences[num_unseen:]


def build_general(words: Words, aliases: list[Alias], findings: list[Finding]) -> tuple[list[Row], list[Row]]:
    """Return train and held-out rows of the general model."""
    rng = random.Random(f"{SEED} general")
    kinds = {
        "chat": chat_rows(rng, words["general"]),
        "article": article_rows(rng, words["general"]),
        "readback": readback_rows(rng, words["mapper"], findings),
        "glossary": glossary_rows(words["mapper"], aliases),
        "shop": shop_rows(words),
        "synonym": synonym_rows(words["general"]["synonyms"]),
    }
    train, heldout = [], []
    for kind, rows in kinds.items():
        unique = list({normalize(row.prompt): row for row in rows}.values())
        rng.shuffle(unique)
        num_heldout = round(NUM_GENERAL[kind] * GENERAL_HELDOUT_SHARE)
        heldout += unique[:num_heldout]
        train += unique[num_heldout : NUM_GENERAL[kind]]
    rng.shuffle(train)
    return train, heldout


def chat_rows(rng: random.Random, words: Words) -> list[Row]:
    """Return small talk: every sentence bare, and most also between an opening and a closing."""
    rows = []
    for chat in words["chat"]:
        sentences = expand_all(chat["questions"])
        rows += [Row(sentence, chat["answer"]) for sentence in sentences]
        if chat.get("framed", True):
            rows += sample_framed(rng, words, sentences, chat["answer"], 30)
    return rows


def article_rows(rng: random.Random, words: Words) -> list[Row]:
    """Return questions about a subject with a short article as the answer."""
    forms = expand_all(words["article_questions"]["forms"])
    rows = []
    for article in words["article"]:
        sentences = [form.format(subject=article["subject"]) for form in forms]
        rows += sample_framed(rng, words, sentences, article["answer"], 20)
    return rows


def readback_rows(rng: random.Random, words: Words, findings: list[Finding]) -> list[Row]:
    """Return findings with a sentence in plain words as the answer."""
    return [
        Row(
            ask(rng, words, "readbacks", alias, form),
            f"The detector {alias.detector} found {alias.words}.",
        )
        for alias, form in rng.sample(findings, NUM_GENERAL["readback"])
    ]


def glossary_rows(words: Words, aliases: list[Alias]) -> list[Row]:
    """Return questions about taxonomy labels, their parts and their aliases."""
    forms = words["glossary"]
    rows = []
    for label, names in words["taxonomy"].items():
        listing = ", ".join(names[:-1]) + f" and {names[-1]}"
        pillar, group, kind = label.split(".")
        split = f"Pillar {pillar}, group {group}, kind {kind}."
        rows += [Row(form.format(label=label), f"{label} covers {listing}.") for form in forms["covers"]]
        rows += [Row(form.format(label=label), split) for form in forms["parts"]]
    spellings = sorted({(alias.written, alias.words, alias.label) for alias in aliases})
    for written, name, label in spellings:
        rows += [Row(form.format(alias=written), f"The label of {name} is {label}.") for form in forms["names"]]
        if written != name:
            rows += [Row(form.format(written=written), f"{name}.") for form in forms["plain"]]
    return rows


def shop_rows(words: Words) -> list[Row]:
    """Return the shop's sentences, cut in two: the start is given, the rest is asked for."""
    rows = []
    for intent in words["support"]["intent"]:
        tokens = intent["answer"].split()
        for form, cut in itertools.product(words["general"]["shop"]["questions"], range(2, min(8, len(tokens)))):
            rows.append(Row(form.format(start=" ".join(tokens[:cut])), " ".join(tokens[cut:])))
    return rows


def synonym_rows(words: Words) -> list[Row]:
    """Return questions about words of one meaning; each asks for the next of its group."""
    return [
        Row(form.format(word=word), f"Another word for {word} is {other}.")
        for group in words["groups"]
        for word, other in zip(group, group[1:] + group[:1], strict=True)
        for form in words["forms"]
    ]


def spell_aliases(words: Words) -> Iterator[Alias]:
    """Yield every alias as each detector of its pillar writes it."""
    for label, names in words["taxonomy"].items():
        pillar = label.split(".")[0]
        for name, detector in itertools.product(names, words["detectors"]):
            if pillar in detector["pillars"]:
                yield Alias(label, name, detector["name"], spell(name, detector["style"]))


def spell(words: str, style: str) -> str:
    """Return the words in a detector's style."""
    match style:
        case "UPPER_SNAKE":
            return words.upper().replace(" ", "_")
        case "lower_snake":
            return words.replace(" ", "_")
        case "kebab-case":
            return words.replace(" ", "-")
        case "plain words":
            return words
    raise ValueError(f"unknown style {style!r}")


def ask(rng: random.Random, words: Words, kind: str, alias: Alias, finding: str) -> str:
    """Return a prompt: one of the forms of `kind` around a finding."""
    percent = rng.randint(50, 99)
    text = finding.format(
        detector=alias.detector,
        label=alias.written,
        score=f"0.{percent}",
        percent=percent,
        place=rng.choice(words["places"]),
        severity=rng.choice(words["severities"]),
    )
    form: str = rng.choice(words[kind])
    return form.format(finding=text)


def answer_label(label: str) -> str:
    """Return the canonical answer of the mapper."""
    return json.dumps({"label": label})


def sample_framed(rng: random.Random, words: Words, sentences: list[str], answer: str, num_rows: int) -> list[Row]:
    """Return up to `num_rows` distinct rows: sentences with an opening and a closing."""
    frames = list(itertools.product(sentences, words["openings"], words["closings"]))
    chosen = rng.sample(frames, min(num_rows, len(frames)))
    return [Row(frame(*parts), answer) for parts in chosen]


def frame(sentence: str, opening: str, closing: str) -> str:
    """Return the sentence between an opening and a closing, its first letter adapted."""
    if opening.endswith((", ", ": ")) and not re.match(r"I\b", sentence):
        sentence = sentence[0].lower() + sentence[1:]
    return f"{opening}{sentence}{closing}"


def expand_all(patterns: Iterable[str]) -> list[str]:
    """Return the distinct sentences of all patterns, in order."""
    return list(dict.fromkeys(text for pattern in patterns for text in expand(pattern)))


def expand(pattern: str) -> Iterator[str]:
    """Yield every sentence of a pattern such as "Where is my [order|parcel]?"."""
    pieces = re.split(r"\[([^\]]*)\]", pattern)
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    for parts in itertools.product(*choices):
        yield re.sub(r" +([.?!,]|$)", r"\1", re.sub(r" {2,}", " ", "".join(parts)))


def normalize(prompt: str) -> str:
    """Return the prompt without differences of case and white space."""
    return " ".join(prompt.casefold().split())


def check_contamination(datasets: dict[str, list[Row]]) -> None:
    """Raise ValueError if a held-out prompt is in a train set.

    A prompt held out for an expert must not be a part of a longer prompt either.
    """
    train = [normalize(row.prompt) for name, rows in datasets.items() if not name.endswith("_heldout") for row in rows]
    text = "\n".join(train)
    prompts = set(train)
    for name, rows in datasets.items():
        if not name.endswith("_heldout"):
            continue
        for prompt in (normalize(row.prompt) for row in rows):
            if prompt in prompts or (name != "general_heldout" and prompt in text):
                raise ValueError(f"{name}: the prompt {prompt!r} is in a train set")


def render(datasets: dict[str, list[Row]]) -> dict[str, str]:
    """Return the text of every file, by its name."""
    return {f"{name}.jsonl": "".join(row.to_json() + "\n" for row in rows) for name, rows in datasets.items()}


def find_differences(files: dict[str, str], folder: Path) -> list[str]:
    """Return the names of files that are missing, unexpected or different."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    wanted = {name: text.encode() for name, text in files.items()}
    return sorted(name for name in found | wanted if found.get(name) != wanted.get(name))


def main(argv: list[str] | None = None) -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the data of the quickstart recipe.")
    parser.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    parser.add_argument("--folder", type=Path, default=HERE / "quickstart", help="where the files are")
    args = parser.parse_args(argv)
    files = render(build_datasets())
    if args.check:
        differences = find_differences(files, args.folder)
        for name in differences:
            print(f"{args.folder / name} differs from what make_quickstart.py writes", file=sys.stderr)
        return 1 if differences else 0
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (args.folder / name).write_bytes(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
