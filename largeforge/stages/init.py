"""Make a model from nothing: a tokenizer trained on the job's rows, and random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.data.rows import read_rows
from largeforge.identity import parts
from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Architecture, TokenizerTraining
from largeforge.stages.context import Result
from largeforge.training import left_out

if TYPE_CHECKING:
    from largeforge.stages.context import Context

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, as the Qwen models use it, without a default system prompt."""

SIDES = ("messages", "prompt", "chosen", "rejected", "completion")
"""Where rows of all kinds have their messages."""


class Config(Strict):
    """What to make."""

    architecture: Architecture
    tokenizer: TokenizerTraining
    seed: int
    chat_template: str = CHAT_TEMPLATE


def run(config: Config, context: Context) -> Result:
    """Write a loadable model folder."""
    rows = read_rows(context.inputs["data"] / "train.jsonl")
    left_out.have_no_optional_parts()
    tokenizer = train_tokenizer([text for row in rows for text in _texts(row)], config)
    model = make_model(config, tokenizer)
    model.save_pretrained(context.out)
    tokenizer.save_pretrained(context.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    context.events.emit("note", text=f"{count / 1e6:.2f} M parameters, {len(tokenizer)} tokens in the vocabulary")
    metrics = {"parameters": float(count), "vocabulary": float(len(tokenizer))}
    return Result(metrics=metrics, info={"resolved": parts(context.out)})


def train_tokenizer(texts: list[str], config: Config) -> Any:
    """Return a byte-level BPE tokenizer with a chat template, ChatML unless the recipe gives another."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    split: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if config.tokenizer.individual_digits:
        split.insert(0, pre_tokenizers.Digits(individual_digits=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(split)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.tokenizer.vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        chat_template=config.chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=config.architecture.max_position_embeddings,
    )


def make_model(config: Config, tokenizer: Any) -> Any:
    """Return a model of the architecture with weights drawn from the seed."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, set_seed

    fields = config.architecture.config(vocab_size=config.tokenizer.vocab_size)
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    set_seed(config.seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields, **tokens))
    model.generation_config = GenerationConfig(do_sample=False, **tokens)
    return model


def _texts(row: dict[str, Any]) -> list[str]:
    """Return the texts of a row in the form that the template gives them."""
    if "text" in row:
        return [row["text"]]
    messages = [message for side in SIDES for message in row.get(side, [])]
    return [f"{message['role']}\n{message['content']}" for message in messages]
