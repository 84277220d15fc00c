"""The shapes of files and batches, as OpenAI's API has them; for the OpenAPI document only, like `wire.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from largeforge.gateway.wire import Open

FILE_ID = r"^file-[0-9a-f]{24}$"
BATCH_ID = r"^batch_[0-9a-f]{24}$"

Seconds = int
"""Since the epoch."""


class FileUpload(Open):
    """A form with a file."""

    purpose: Literal["batch"]
    file: bytes = Field(json_schema_extra={"format": "binary", "contentMediaType": "application/octet-stream"})
    """JSONL: one request a line, with `custom_id`, `method`, `url` and `body`."""


class File(Open):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: Seconds
    expires_at: Seconds | None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FileList(Open):
    """A page of files."""

    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Open):
    """What is left of a file."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class OutputExpiresAfter(Open):
    """When the output is removed."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


Key = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]


class BatchRequest(Open):
    """Body of `POST /v1/batches`."""

    input_file_id: str
    """A file that was uploaded."""
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/score"]
    """The `url` of each of its lines."""
    completion_window: str = Field(pattern=r"^[1-9][0-9]{0,3}[smhd]$", examples=["24h"])
    """After that time what is not answered stays unanswered."""
    metadata: dict[Key, Value] | None = Field(default=None, max_length=16)
    output_expires_after: OutputExpiresAfter | None = None


class BatchFault(Open):
    """What is wrong with a line."""

    code: str
    message: str
    line: int | None
    """Counted from 1."""
    param: str | None


class BatchFaults(Open):
    """Why nothing of a batch was answered."""

    object: Literal["list"]
    data: list[BatchFault]


class RequestCounts(Open):
    """How far a batch has come."""

    total: int
    completed: int
    failed: int


class Batch(Open):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    """Answers, one a line; null while there are none."""
    error_file_id: str | None
    """Requests that failed or were not answered."""
    created_at: Seconds
    in_progress_at: Seconds | None
    expires_at: Seconds
    finalizing_at: Seconds | None
    completed_at: Seconds | None
    failed_at: Seconds | None
    expired_at: Seconds | None
    cancelling_at: Seconds | None
    cancelled_at: Seconds | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(Open):
    """A page of batches, the newest first."""

    object: Literal["list"]
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
