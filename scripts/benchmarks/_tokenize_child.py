"""One measurement of `tokenize.py`, in a process of its own: WHAT FOLDER OPTIONS."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scripts.benchmarks import tokenize as benchmark


def make(folder: Path, rows: int, subset: int, template: str) -> dict[str, Any]:
    """Write a tokenizer and the rows."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = benchmark.sources()
    core = Tokenizer(models.BPE())
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer, core.decoder = pre_tokenizers.Sequence([split, levels]), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=benchmark.VOCABULARY, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = benchmark.template(template)
    tokenizer.save_pretrained(folder / "tokenizer")
    words = [word for text in texts for word in text.split() if word.isalpha()]
    for name, count in (("all", rows), ("subset", subset)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in benchmark.conversations(count, words):
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
    return {}


def ours(folder: Path, file: str, work: str) -> dict[str, Any]:
    """Tokenize a file as the train stage does."""
    from transformers import AutoTokenizer

    from largeforge.tokens import loaded
    from largeforge.tokens.parts import Wanted
    from largeforge.tokens.tokenized import tokenized

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    _let_go(folder, file, work)
    import pyarrow

    pyarrow.array([1])
    before, started = _memory_mib(), time.perf_counter()
    engine = loaded.engine(tokenizer)
    wanted = Wanted("sft", "completion", 0)
    found = tokenized(folder / f"{file}.jsonl", engine, wanted, work=folder / work, report=lambda done, total: None)
    seconds = time.perf_counter() - started
    rows = found.lengths.rows
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    said = {
        "seconds": seconds,
        "rows_per_s": rows / seconds,
        "memory_mib": _memory_mib() - before,
        "worker_mib": workers,
    }
    if file == "subset":
        with pyarrow.memory_map(str(found.data)) as data:
            said["digest"] = _digest(pyarrow.ipc.open_stream(data).read_all().to_pylist())
    return {**said, "tokens": found.lengths.total}


def _let_go(folder: Path, file: str, work: str) -> None:
    """Forget what earlier turns on the subset kept; what was kept of all rows is to be found again."""
    import shutil

    if file == "subset":
        shutil.rmtree(folder / "cache", ignore_errors=True)
        shutil.rmtree(folder / work, ignore_errors=True)


def trl(folder: Path, processes: int | None) -> dict[str, Any]:
    """Tokenize the first rows as trl's trainer does."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_caching()
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    with (folder / "subset.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in islice(file, None)]
    given = datasets.Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
    arguments = SFTConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, report_to="none", max_length=None,
        dataset_num_proc=processes,
    )  # fmt: skip
    self = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    before, started = _memory_mib(), time.perf_counter()
    found = SFTTrainer._prepare_dataset(self, given, tokenizer, arguments, False, None, "train")
    seconds = time.perf_counter() - started
    memory = _memory_mib() - before
    digest = _digest(found.select_columns(["input_ids", "labels"]).to_list())
    return {"seconds": seconds, "rows_per_s": len(rows) / seconds, "memory_mib": memory, "digest": digest}


def _memory_mib() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _digest(rows: list[dict[str, list[int]]]) -> str:
    """Return a hash of the ids and labels of all rows."""
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps([row["input_ids"], row["labels"]]).encode())
    return found.hexdigest()


if __name__ == "__main__":
    doing = {"make": make, "ours": ours, "trl": trl}[sys.argv[1]]
    print(json.dumps(doing(Path(sys.argv[2]), **json.loads(sys.argv[3]))))
