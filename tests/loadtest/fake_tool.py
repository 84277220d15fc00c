#!/usr/bin/env python3
"""Stands for an interpreter that has vLLM: `serving.python` may name this file. Standard library only.

As a server it is `tests/serving/fake_vllm.py`. As the load tool it sends nothing, and the name of the tokenizer's
folder says how it behaves: `hangs`, `dies`, `bare` (has no vLLM), `silent` (writes no result), `refused` (nobody
answers); anything else writes the result of requests that were answered in 50 ms.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FAKE_VLLM = str(Path(__file__).parents[1] / "serving" / "fake_vllm.py")

if sys.argv[1] == "-m":
    os.execv(FAKE_VLLM, [FAKE_VLLM, *sys.argv[1:]])

driver, rows, *words = sys.argv[1:]
given = {words[at][2:]: words[at + 1] for at in range(len(words)) if words[at].startswith("--") and at + 1 < len(words)}
count, rate = int(given["num-prompts"]), float(given["request-rate"])
behaviour = Path(given["tokenizer"]).name

print("Starting main benchmark run...", flush=True)
print(f"  0%|  | 0/{count} [00:00<?, ?it/s]", f" 40%|  | {count // 2}/{count} [00:01]", sep="\r", end="", flush=True)
if behaviour == "hangs":
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(1000)
if behaviour == "dies":
    print(
        "\nTraceback (most recent call last):\nValueError: the tokenizer is not for this\nnanobind: leaked 4 instances!"
    )
    sys.exit(3)
if behaviour == "bare":
    sys.exit("ModuleNotFoundError: No module named 'vllm'")
if behaviour != "silent":
    failed = behaviour == "refused"
    result = {
        "request_rate": rate, "duration": count / rate, "completed": 0 if failed else count,
        "failed": count if failed else 0, "errors": ["Bad Request" if failed else ""] * count,
        "ttfts": [0.0 if failed else 0.05] * count, "itls": [[] if failed else [0.01, 0.01]] * count,
        "queue_times": [0.0] * count, "output_lens": [0 if failed else 3] * count,
        "start_times": [place / rate for place in range(count)],
        "total_input_tokens": 7 * count, "total_output_tokens": 3 * count, "generated_texts": ["said"] * count,
    }  # fmt: skip
    (Path(given["result-dir"]) / given["result-filename"]).write_text(json.dumps(result))
