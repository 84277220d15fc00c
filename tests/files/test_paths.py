"""What a path says by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.files.paths import has_password, is_remote, labels, may_have_rows


@pytest.mark.parametrize(
    "path", ["s3://b/k.jsonl", "gs://b/*.parquet", "hf://datasets/a/b", "memory://x", "https://h/x.jsonl", "S3://b/k"]
)
def test_remote(path: str) -> None:
    assert is_remote(path)
    assert not has_password(path)


@pytest.mark.parametrize("path", ["a.jsonl", "/data/a.jsonl", "./a", "C:/a", "recipe:data/a.jsonl", "file:///a", "a:b"])
def test_local(path: str) -> None:
    assert not is_remote(path)


def test_passwords() -> None:
    assert has_password("https://me:secret@host/x.jsonl")
    assert has_password("s3://key:secret@bucket/x.jsonl")
    assert not has_password("hf://datasets/a/b@main/x.jsonl")
    assert not has_password("https://host/a@b.jsonl")


@pytest.mark.parametrize(
    "path", ["a.jsonl", "A.JSONL", "x/y.csv", "a.jsonl.gz", "a.csv.zst", "a.parquet", "a.b.json.xz", "a.ndjson.bz2"]
)
def test_files_with_rows(path: str) -> None:
    assert may_have_rows(path)


@pytest.mark.parametrize(
    "path", ["README.md", "a.txt", ".a.jsonl", ".cache/a.jsonl", "_tmp/a.csv", "dataset_info.json", "a.gz", "jsonl", ""]
)
def test_files_without(path: str) -> None:
    assert not may_have_rows(path)


def test_labels_are_as_short_as_they_can_be() -> None:
    assert labels(["/a/x.jsonl"]) == ["x.jsonl"]
    assert labels(["/a/x.jsonl", "/a/y.jsonl"]) == ["x.jsonl", "y.jsonl"]
    assert labels(["/d/a/x.jsonl", "/d/b/x.jsonl", "/d/b/y.jsonl"]) == ["a/x.jsonl", "b/x.jsonl", "y.jsonl"]
    assert labels(["x.jsonl", "/b/x.jsonl"]) == ["x.jsonl", "b/x.jsonl"]


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda p: "/" + "/".join(p)), unique=True))
def test_labels_tell_all_files_apart(paths: list[str]) -> None:
    found = labels(paths)
    assert len(set(found)) == len(paths)
    assert all(path.endswith(label) for path, label in zip(paths, found, strict=True))
