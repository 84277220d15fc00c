"""Write the rows of `grpo_small`: four different digits, answered by any of them or by the largest.

python recipes/data/make_digits.py
"""

from __future__ import annotations

import json
import random
from itertools import permutations
from pathlib import Path

FOLDER = Path(__file__).parent / "digits"
SEED = 11
TRAIN_ROWS = 2000
HELDOUT_ROWS = 200


def main() -> None:
    """Write the files anew; always the same bytes."""
    generator = random.Random(SEED)
    prompts = list(permutations("0123456789", 4))
    generator.shuffle(prompts)
    train, heldout = prompts[:TRAIN_ROWS], prompts[TRAIN_ROWS : TRAIN_ROWS + HELDOUT_ROWS]
    FOLDER.mkdir(exist_ok=True)
    write("any.jsonl", [(prompt, generator.choice(prompt)) for prompt in train])
    write("largest.jsonl", [(prompt, max(prompt)) for prompt in train])
    write("largest_heldout.jsonl", [(prompt, max(prompt)) for prompt in heldout])


def write(name: str, rows: list[tuple[tuple[str, ...], str]]) -> None:
    lines = [json.dumps({"prompt": " ".join(prompt), "response": response}) for prompt, response in rows]
    (FOLDER / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
