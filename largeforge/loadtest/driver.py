"""Run `vllm bench serve`, with what it lacks; for the interpreter that has vLLM, and may lack LargeForge.

    python driver.py ROWS ARGUMENTS…

ROWS is a file with a chat request on each line, empty for prompts that the tool makes up. Three things differ from the
tool on its own:

* It starts where the distribution is not called `vllm` (the CPU build); the tool's own command looks for that name.
* Requests may be whole conversations with tools; of the tool's datasets only one from the hub has them.
* A stream that ends in an error is a failed request, where the tool counts what came before as a whole answer; and the
  first piece of an answer, which names the role and has no text, is no token.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(rows: str, arguments: list[str]) -> None:
    """Run the tool to its end; it writes its result to a file."""
    del sys.path[0]  # this file's folder: its modules are none of vLLM's
    from vllm.benchmarks import serve
    from vllm.benchmarks.lib import endpoint_request_func
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Checked(endpoint_request_func.StreamedResponseHandler):  # type: ignore[misc,unused-ignore]
        def add_chunk(self, chunk_bytes: bytes) -> list[str]:
            return [message for message in super().add_chunk(chunk_bytes) if is_token(message)]

    endpoint_request_func.StreamedResponseHandler = Checked
    if rows:
        serve.get_samples = lambda options, tokenizer: samples(rows, options.custom_output_len)
    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    serve.main(parser.parse_args(arguments))


def is_token(message: str) -> bool:
    """Tell whether the tool may see a piece of a stream.

    Raises RuntimeError with the kind of the error that the piece tells.
    """
    if '"error"' not in message and '"role"' not in message:
        return True  # nearly all of them
    try:
        piece = json.loads(message.removeprefix("data: "))
    except ValueError:
        return True
    if not isinstance(piece, dict):
        return True
    if error := piece.get("error"):
        kind = (error.get("code") or error.get("type")) if isinstance(error, dict) else ""
        raise RuntimeError(f"the stream ended in an error: {kind or 'unknown'}")
    choices = piece.get("choices") or [{}]
    said = {key: value for key, value in (choices[0].get("delta") or {}).items() if value}
    return set(said) != {"role"} or choices[0].get("finish_reason") is not None


def samples(path: str, max_tokens: int) -> list[Any]:
    """Return the requests in a file, in their order; how long prompts are is told by the server."""
    from vllm.benchmarks.datasets import SampleRequest

    with open(path, encoding="utf-8") as lines:  # noqa: PTH123 - as small as it can be
        requests = [json.loads(line) for line in lines]
    return [
        SampleRequest(
            prompt="", prompt_len=0, expected_output_len=max_tokens, request_id=f"load-{place}",
            chat_messages=request["messages"],
            request_overrides={key: value for key, value in request.items() if key != "messages"} or None,
        )
        for place, request in enumerate(requests)
    ]  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
