"""How fast held-out prompts are answered: by transformers' `generate` in this process, and by vLLM.

The same model, prompts and number of tokens, both through the classes that the stage `evaluate` uses; each answers once
to warm up, then --rounds times in turns. The start of vLLM is told by itself: it is what few prompts pay for.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.tables import columns

SUMMARY = "prompts/s of an evaluation, by vLLM and by transformers"
_WORDS = ("the", "router", "sends", "each", "question", "to", "an", "expert", "that", "knows", "about", "parcels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rows", type=int, default=256, help="prompts (%(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="prompts at once in transformers (%(default)s)")
    parser.add_argument("--hidden", type=int, default=512, help="width of the model (%(default)s)")
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds of each (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Measure and print the table."""
    from largeforge.events import Events
    from largeforge.recipe.schema import Registry, Serving
    from largeforge.stages import contenders
    from largeforge.stages.contenders import Contender
    from largeforge.stages.context import Context
    from largeforge.stages.models import ResolvedModel
    from largeforge.training.other_models import OtherModels

    with tempfile.TemporaryDirectory(prefix="largeforge-bench-") as name:
        home = Path(name)
        parameters = _write_model(home / "model", options)
        rows = _rows(options.rows)
        work = home / "work"
        work.mkdir()
        context = Context("bench", {}, home / "out", work, Events("bench", io.StringIO()), "")
        others = OtherModels(context, Registry(), [], device=options.device, precision="auto")
        group = [Contender("model", ResolvedModel(str(home / "model"), "bench"))]
        serving, device = Serving(enforce_eager=options.device == "cpu", max_model_len=1024), options.device
        [(_, here)] = contenders.loaded(group, rows, context, task="CAUSAL_LM", device=device, others=others)
        started = time.monotonic()
        with contenders.served(group, rows, context, device=device, serving=serving, others=others) as [(_, there)]:
            start_s = time.monotonic() - started
            seconds: dict[str, list[float]] = {"transformers": [], "vLLM": []}
            for turn in range(options.rounds + 1):
                for title, subject in (("transformers", here), ("vLLM", there)):
                    subject._answered.clear()
                    began = time.monotonic()
                    subject.answers(range(len(rows)), max_new_tokens=options.tokens, batch_size=options.batch_size)
                    if turn:
                        seconds[title].append(time.monotonic() - began)
    rates = {title: len(rows) / statistics.median(found) for title, found in seconds.items()}
    shown = [("engine", "prompts/s", "answer tokens/s", "of transformers")]
    shown += [
        (title, f"{rate:.2f}", f"{rate * options.tokens:.0f}", f"{rate / rates['transformers']:.2f}")
        for title, rate in rates.items()
    ]
    print(columns(shown))
    print(
        f"\n{parameters / 1e6:.1f} M parameters, {len(rows)} prompts, {options.tokens} tokens each, {options.device}; "
        f"vLLM took {start_s:.0f} s to start"
    )
    return 0


def _write_model(folder: Path, options: argparse.Namespace) -> int:
    """Write a model with random weights that never ends an answer by itself; return its parameters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>", "<|turn|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(list(_WORDS) * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|turn|>{% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model: Any = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=32000,
            hidden_size=options.hidden,
            intermediate_size=4 * options.hidden,
            num_hidden_layers=options.layers,
            num_attention_heads=options.hidden // 64,
            num_key_value_heads=options.hidden // 64,
            max_position_embeddings=1024,
            eos_token_id=31999,
            pad_token_id=0,
        )
    )
    model.save_pretrained(folder)
    return int(model.num_parameters())


def _rows(count: int) -> list[dict[str, Any]]:
    """Return prompts of 20 to 120 words."""
    source = random.Random(5)
    asked = [" ".join(source.choices(_WORDS, k=source.randint(20, 120))) for _ in range(count)]
    return [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "-"}]} for text in asked]
