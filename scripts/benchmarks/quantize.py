"""Time and peak memory of quantizing, by quantizer and size of the model; with --serve also what vLLM makes of it.

Models have random weights and the layout of Qwen2; they are calibrated with random rows of one length, so that their
quality is not judged here.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from largeforge.environments import spec
from largeforge.events import Events
from largeforge.quantizing import folder, process
from largeforge.quantizing.measuring import Measuring
from largeforge.quantizing.prompts import Prompt
from largeforge.recipe import extensions
from largeforge.recipe.quantization import Acceptance
from largeforge.recipe.schema import Serving
from scripts.tables import columns

SUMMARY = "time and peak memory of quantizing, by size"
VOCABULARY = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 512, 1024], help="widths (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rows", type=int, default=64, help="rows to calibrate with")
    parser.add_argument("--length", type=int, default=128, help="tokens of each")
    parser.add_argument(
        "--quantizers", nargs="+", default=["fp8_dynamic", "w8a8", "gptq", "awq", "awq_autoawq"], metavar="NAME"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--serve", action="store_true", help="serve each beside the original: memory and tokens/s")


def run(options: argparse.Namespace) -> int:
    """Quantize each size with each quantizer and print the table."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as place:
        for hidden in options.hidden:
            original = Path(place) / f"original-{hidden}"
            parameters = _original(original, hidden, options.layers)
            for name in options.quantizers:
                rows.append(_line(name, original, parameters, options))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
            shutil.rmtree(original)
    head = ["parameters", "quantizer", "seconds", "peak GiB", "size on disk"]
    print(columns([[*head, *(["memory", "tokens/s"] if options.serve else [])], *rows], left=2))
    return 0


def _original(path: Path, hidden: int, layers: int) -> int:
    """Write a model with random weights and a tokenizer of bytes; return its parameters."""
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=hidden, intermediate_size=hidden * 11 // 4 // 128 * 128, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, vocab_size=VOCABULARY,
        max_position_embeddings=1024, tie_word_embeddings=True, initializer_range=0.04, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(path)
    _tokenizer(PreTrainedTokenizerFast).save_pretrained(path)
    return int(model.num_parameters())


def _tokenizer(kind: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<unk>": 1, "<eos>": 2, **{f"w{index}": index for index in range(3, VOCABULARY)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return kind(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def _line(name: str, original: Path, parameters: int, options: argparse.Namespace) -> list[str]:
    drawn = random.Random(0)
    rows = [[drawn.randrange(3, VOCABULARY) for _ in range(options.length)] for _ in range(options.rows)]
    module = extensions.load("quantization", name)
    settings = module.Config().model_dump(mode="json")
    made = original.with_name(f"{original.name}-{name}")
    made.mkdir()
    pins = spec.named(module.ENVIRONMENT).requirements if module.ENVIRONMENT else ()
    there = process.environment(module.ENVIRONMENT, pins, lambda text: print(text, file=sys.stderr))
    job = {"model": str(original), "out": str(made), "device": options.device}
    calibrated = module.calibrated(module.Config(**settings))
    with Path("/dev/null").open("w") as nowhere:
        found = process.quantize(
            name, settings, {**job, "rows": rows if calibrated else []}, there, Events("bench", nowhere)
        )
    folder.complete(original, made)
    ratio = folder.weights_bytes(made) / folder.weights_bytes(original)
    line = [f"{parameters / 1e6:.0f} M", name, f"{found.seconds:.0f}", f"{found.peak_gib:.2f}", f"{ratio:.2f} ×"]
    if options.serve:
        line += _served(original, made, rows, options)
    shutil.rmtree(made)
    return line


def _served(original: Path, made: Path, rows: list[list[int]], options: argparse.Namespace) -> list[str]:
    prompts = [Prompt(row[:32], row[32:64]) for row in rows[:16]]
    with Measuring(
        original, prompts, Acceptance(max_new_tokens=8, rounds=8), serving=Serving(enforce_eager=True),
        device=options.device, logs=original.parent / "logs", report=lambda text: None,
    ) as measuring:  # fmt: skip
        found = measuring.compare(made)
    speeds = sorted(
        quick / slow for slow, quick in zip(found.original.tokens_per_s, found.quantized.tokens_per_s, strict=True)
    )
    print(json.dumps({"original": found.original.tokens_per_s, "made": found.quantized.tokens_per_s}), file=sys.stderr)
    memory = found.quantized.memory_bytes / found.original.memory_bytes
    return [f"{memory:.2f} ×", f"{speeds[len(speeds) // 2]:.2f} × ({speeds[0]:.2f} to {speeds[-1]:.2f})"]
