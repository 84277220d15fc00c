"""`s3://` and `gs://` with nothing but pyarrow, for those who have neither s3fs nor gcsfs."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from largeforge.errors import DataError

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
RETRY_S = 15
"""How long Google's library tries again; its own limit is 15 minutes."""


def opened(protocol: str, path: str) -> Any:
    """Return a file system of fsspec.

    The endpoint is AWS_ENDPOINT_URL or STORAGE_EMULATOR_HOST, if given. Raises DataError without pyarrow.
    """
    try:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow import fs
    except ImportError:
        raise DataError(f"reading {protocol}:// needs a package: pip install {PACKAGES[protocol]}") from None

    class Store(ArrowFSWrapper):  # type: ignore[misc]
        """Lists what is below a path at once: level by level, Arrow does not find folders that are mere prefixes."""

        cachable = False

        def find(self, path: str, maxdepth: Any = None, withdirs: bool = False, detail: bool = False, **_: Any) -> Any:
            found = self.fs.get_file_info(fs.FileSelector(self._strip_protocol(path), recursive=True))
            entries = {info.path: self._make_entry(info) for info in found if withdirs or info.is_file}
            return entries if detail else list(entries)

    return Store(_google(fs) if PACKAGES[protocol] == "gcsfs" else _amazon(fs, path))


def _google(fs: Any) -> Any:
    scheme, _, emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rpartition("://")
    given = {"anonymous": True, "scheme": scheme or "http", "endpoint_override": emulator} if emulator else {}
    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=RETRY_S), **given)


def _amazon(fs: Any, path: str) -> Any:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(path.partition("/")[0])
    return fs.S3FileSystem(endpoint_override=endpoint, region=region, connect_timeout=5, request_timeout=60)
