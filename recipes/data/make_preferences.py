"""Make preferences.jsonl from the quickstart's support rows: the right answer against another intent's.

    python recipes/data/make_preferences.py [--check]

`--check` makes it again in memory and exits with 1 when the committed file differs.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ROWS = 400
SEED = 7


def make() -> str:
    """Return the file: `prompt`, `chosen`, `rejected`, one JSON object a line."""
    source = (FOLDER / "quickstart" / "support_train.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line)["messages"] for line in source.splitlines()]
    answers = sorted({row[-1]["content"] for row in rows})
    generator = random.Random(SEED)
    lines = []
    for row in generator.sample(rows, min(ROWS, len(rows))):
        question, chosen = row[-2]["content"], row[-1]["content"]
        rejected = generator.choice([answer for answer in answers if answer != chosen])
        lines.append(json.dumps({"prompt": question, "chosen": chosen, "rejected": rejected}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the file, or compare it."""
    path = FOLDER / "preferences.jsonl"
    if "--check" in sys.argv[1:]:
        same = path.read_text(encoding="utf-8") == make()
        print("preferences.jsonl is up to date" if same else "preferences.jsonl differs from what the script makes")
        return 0 if same else 1
    path.write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
