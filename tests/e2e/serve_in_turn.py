"""Load models into vLLM one after the other in this process and print what each answers, as one line of JSON.

    python serve_in_turn.py PROMPTS.json NAME=FOLDER:DTYPE …

Starting a server for each would import vLLM as often; loading, kernels and sampling are the same.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_CPU_KVCACHE_SPACE="1")


def main(prompts: str, *models: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    rows = [{"prompt_token_ids": ids} for ids in json.loads(Path(prompts).read_text())]
    found = {}
    for model in models:
        name, _, rest = model.partition("=")
        folder, _, dtype = rest.rpartition(":")
        engine = LLM(
            folder, dtype=dtype, enforce_eager=True, max_num_seqs=64, disable_log_stats=True, skip_tokenizer_init=True,
            distributed_executor_backend="uni",
        )  # fmt: skip
        answers = engine.generate(rows, SamplingParams(temperature=0, max_tokens=24, detokenize=False), use_tqdm=False)
        found[name] = [list(answer.outputs[0].token_ids) for answer in answers]
        del engine
        gc.collect()
        cleanup_dist_env_and_memory()
    out.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
