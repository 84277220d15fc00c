"""Receive a form with a file (`multipart/form-data`) piece by piece: onto the disk, never into memory.

Everything about it is bounded: the file, the other fields, the number of parts and of their headers, and the time
between two pieces.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.request import ClientGone

if TYPE_CHECKING:
    from pathlib import Path

    from python_multipart.multipart import MultipartCallbacks
    from starlette.types import Receive, Scope

MOST_PARTS = 16
MOST_FIELD_BYTES = 4096
OVERHEAD_BYTES = 65_536
"""What a form may have beside its file."""
IDLE_TIMEOUT_S = 60.0
"""Longest time between two pieces."""
SPARE_BYTES = 256 * 2**20
"""What stays free on the disk, whatever is uploaded."""
_WRITE_BYTES = 2**18


@dataclass
class Form:
    """The fields of a form; its file is where the caller said."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    """Name of the file, as the client gave it; None when there was no file."""
    num_bytes: int = 0


async def receive_form(scope: Scope, receive: Receive, path: Path, *, max_bytes: int) -> Form:
    """Read a form, writing its file `file` to `path`.

    Raises ApiError (4xx, 507) and ClientGone; what has been written is then the caller's to remove.
    """
    headers = dict(scope["headers"])
    boundary = _boundary(headers.get(b"content-type", b""))
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > max_bytes + OVERHEAD_BYTES:
        raise _too_large(max_bytes)
    if shutil.disk_usage(path.parent).free < SPARE_BYTES + (int(length) if length.isdigit() else 0):
        raise _disk_is_full()
    try:
        with path.open("xb") as file:
            reader = _Reader(boundary, file, max_bytes)
            await _read(receive, reader)
            await asyncio.to_thread(file.flush)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_is_full() from error
        raise
    return reader.form


async def _read(receive: Receive, reader: _Reader) -> None:
    while True:
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, f"Nothing came for {IDLE_TIMEOUT_S:g} s.", code="timeout") from None
        if message["type"] != "http.request":
            raise ClientGone
        reader.feed(message.get("body", b""))
        is_last = not message.get("more_body", False)
        if reader.num_unwritten >= _WRITE_BYTES or is_last:
            await asyncio.to_thread(reader.write)
        if is_last:
            reader.finish()
            return


class _Reader:
    """The state of one form."""

    def __init__(self, boundary: bytes, file: BinaryIO, max_bytes: int):
        self.form = Form()
        self.num_unwritten = 0
        self._file = file
        self._max_bytes = max_bytes
        self._unwritten: list[bytes] = []
        self._num_parts = 0
        self._header, self._value = b"", b""
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        self._in_file = False
        self._is_complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks, max_header_count=8, max_header_size=4096)

    def feed(self, data: bytes) -> None:
        """Read a piece of the form."""
        try:
            self._parser.write(data)
        except FormParserError:
            bad_request("The form is not valid multipart/form-data.", code="invalid_form")

    def write(self) -> None:
        """Write what has come of the file."""
        for piece in self._unwritten:
            self._file.write(piece)
        self._unwritten.clear()
        self.num_unwritten = 0

    def finish(self) -> None:
        """Check that the form was complete."""
        if not self._is_complete:
            bad_request("The form breaks off before its end.", code="invalid_form")
        if self.form.filename is None:
            bad_request("'file' is missing: it must be a part with a filename.", "file", "missing_required_parameter")

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > MOST_PARTS:
            bad_request(f"The form has more than {MOST_PARTS} parts.", code="invalid_form")
        self._disposition, self._text = b"", bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._in_file = filename is not None
        if filename is None:
            return
        if self._name != "file" or self.form.filename is not None:
            bad_request("There must be exactly one file, and its part must be called 'file'.", "file", "invalid_form")
        self.form.filename = _plain(filename.decode("utf-8", "replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._text += data[start:end]
            if len(self._text) > MOST_FIELD_BYTES:
                bad_request(f"A field is longer than {MOST_FIELD_BYTES} bytes.", _plain(self._name), "invalid_form")
            return
        self.form.num_bytes += end - start
        self.num_unwritten += end - start
        if self.form.num_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._unwritten.append(data[start:end])

    def _end_part(self) -> None:
        if self._in_file:
            return
        try:
            self.form.fields[self._name] = self._text.decode()
        except UnicodeDecodeError:
            bad_request("A field is not valid UTF-8.", _plain(self._name), "invalid_form")

    def _end(self) -> None:
        self._is_complete = True


def _boundary(content_type: bytes) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data":
        message = "A file is sent as multipart/form-data, with the fields 'purpose' and 'file'."
        raise ApiError(415, message, code="unsupported_media_type")
    if not 0 < len(boundary) <= 70:
        bad_request("The content type names no boundary of 1 to 70 characters.", code="invalid_form")
    return boundary


def _plain(text: str) -> str:
    """Return a name without what a terminal or a header would take for a command."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)[:255]


def _too_large(max_bytes: int) -> ApiError:
    message = f"The file is larger than {max_bytes / 2**20:g} MiB, the limit of this gateway."
    return ApiError(413, message, param="file", code="file_too_large")


def _disk_is_full() -> ApiError:
    return ApiError(507, "The gateway's disk is full; delete files, or ask its owner.", code="storage_full")
