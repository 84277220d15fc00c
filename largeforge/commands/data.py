"""Look at rows as a training would see them: token by token, with what is learnt.

A wrong chat template costs GPU hours and shows in no loss curve. Nothing is trained and nothing is kept; rows are
prepared on the fly where the recipe has not run yet. docs/tokens.md explains the notation.

  python -m largeforge data show +recipe=quickstart --job support
  python -m largeforge data show +recipe=sft_qwen7b dataset.path=my.jsonl --row my.jsonl:17
  python -m largeforge data show +recipe=dpo_qwen7b dataset.path=pairs.jsonl --json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.data.formats import Row
    from largeforge.shown.job import Rows, ShownJob
    from largeforge.tokens.look import Look, Seen

LOOKED_AT = 200
"""Rows that the statistics and warnings are about, where only a few are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="print rows as the model reads them", allow_abbrev=False)
    add = show.add_argument
    add("words", nargs="+", metavar="WORD", help="+recipe=NAME and overrides, as in a run")
    add("--job", default="", metavar="NAME", help="job of the recipe, where it has several")
    add("--split", choices=("train", "heldout"), default="train", help="rows to learn from or held out (train)")
    add("--rows", type=int, default=3, metavar="N", help="rows to print (3)")
    add("--row", default="", metavar="FILE:LINE", help="the row that stands there in the data")
    add("--raw", action="store_true", help="print only the text that the model reads")
    add("--json", action="store_true", help="print one JSON object, with the ids of all tokens")


def run(arguments: argparse.Namespace) -> int:
    """Print the rows, how long they are, and what is suspicious about them."""
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate
    from largeforge.shown.job import ShownJob, no_such_row

    composition = compose(arguments.words)
    job = ShownJob(
        validate(composition), arguments.job, recipe_folder=composition.recipe_folder, packs=composition.packs
    )
    with job.rows(at=arguments.row) as rows:
        if arguments.row:
            row = rows.named(arguments.row)
            if row is None:
                raise no_such_row(arguments.row)
            chosen = [row]
        else:
            chosen = rows.of(arguments.split, max(arguments.rows, 0))
        _show(arguments, job, rows, chosen)
    return 0


def _show(arguments: argparse.Namespace, job: ShownJob, rows: Rows, chosen: Sequence[Row]) -> None:
    from largeforge.tokens import loaded
    from largeforge.tokens.look import Look
    from largeforge.training.datasets import learn_of

    tokenizer = job.tokenizer()
    look = Look(loaded.engine(tokenizer), tokenizer, job.kind, learn_of(job.job.method))
    if arguments.raw:
        for row in chosen:
            print("\n".join(look.texts(row)))
        return
    sample = [look.at(row) for row in ([] if arguments.row else rows.of(arguments.split, LOOKED_AT))]
    seen = [look.at(row) for row in chosen] if arguments.row else sample[: len(chosen)]
    if arguments.json:
        print(json.dumps(_as_dict(arguments, job, look, chosen, seen, sample), ensure_ascii=False))
    else:
        _print(arguments, job, look, rows, chosen, seen, sample)


def _as_dict(
    arguments: argparse.Namespace, job: ShownJob, look: Look, chosen: Sequence[Row], seen: list[Seen],
    sample: list[Seen],
) -> dict[str, object]:  # fmt: skip
    from largeforge.data import lengths
    from largeforge.shown import view
    from largeforge.tokens import examine

    found = sample or seen
    return {
        "job": job.name, "kind": job.kind, "split": arguments.split, "model": job.job.model.ref,
        "chat_template": look.template_sha256,
        "rows": [view.shown(row, one, job.kind, look).as_dict() for row, one in zip(chosen, seen, strict=True)],
        "lengths": asdict(lengths.describe([one.length for one in found])),
        "warnings": examine.summary([one.suspicions for one in found]),
    }  # fmt: skip


def _print(
    arguments: argparse.Namespace, job: ShownJob, look: Look, rows: Rows, chosen: Sequence[Row], seen: list[Seen],
    sample: list[Seen],
) -> None:  # fmt: skip
    from rich.console import Console
    from rich.text import Text

    from largeforge.shown import view
    from largeforge.tokens import examine

    console = Console(highlight=False, soft_wrap=True)
    for row, one in zip(chosen, seen, strict=True):
        for line in view.text(view.shown(row, one, job.kind, look)):
            console.print(line)
        console.print()
    if not chosen:
        console.print(Text(f"there are no {arguments.split} rows"))
    if sample:
        which = "the first rows" if rows.is_sample or len(sample) == LOOKED_AT else f"all {arguments.split} rows"
        sizes, learnt = [one.length for one in sample], [one.learnt for one in sample]
        for line in view.statistics(sizes, learnt, which=which):
            console.print(line)
        if longer := sum(size > job.job.method.max_length for size in sizes):
            said = f"{longer} of them are longer than method.max_length = {job.job.method.max_length}"
            console.print(Text(f"warning: {said}", "bold yellow"))
        for warning in examine.summary([one.suspicions for one in sample]):
            console.print(Text(f"warning: {warning}", "bold yellow"))
    console.print(Text(f"chat template: sha256 {look.template_sha256 or 'none'}", "dim"))
