"""Passwords in addresses stay out of what is written and shown."""

from __future__ import annotations

import json
import os

import pytest

from largeforge.secrets import WITHHELD, restored, withheld, without_passwords


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://me:s3cret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("registry.uri=https://token@host/path other=1", "registry.uri=https://host/path other=1"),
        ("'registry.uri=postgresql+psycopg://a:b@c'", "'registry.uri=postgresql+psycopg://c'"),
        ("postgresql://u:p@ss@host/db", "postgresql://host/db"),
        ("mysql+pymysql://u:p/w@host/db", "mysql+pymysql://host/db"),
        ("http://localhost:5000/users/@me", "http://localhost:5000/users/@me"),
        (
            "https://b.s3/x.jsonl?X-Amz-Date=1&X-Amz-Signature=ab12&part=2",
            "https://b.s3/x.jsonl?X-Amz-Date=1&X-Amz-Signature=***&part=2",
        ),
        ("https://acc.blob/x?sv=1&sig=a%2Fb", "https://acc.blob/x?sv=1&sig=***"),
        ("export HF_TOKEN=hf_abc WANDB_API_KEY='$KEY'", "export HF_TOKEN=*** WANDB_API_KEY='$KEY'"),
        ("export HF_TOKEN=$SECRET max_tokens=5", "export HF_TOKEN=$SECRET max_tokens=5"),
        ("https://a:b@c and https://d:e@f", "https://c and https://f"),
        ("https://host/a@b", "https://host/a@b"),
        ("registry:support@champion", "registry:support@champion"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_an_address_loses_its_user_and_password_and_nothing_else_changes(text, left):
    assert without_passwords(text) == left
    assert without_passwords({"a": [text, (text,)], "b": 1}) == {"a": [left, [left]], "b": 1}


def test_what_a_file_leaves_out_is_put_back_once(monkeypatch):
    data = {"registry": {"uri": "http://a:b@c/"}, "paths": ["plain", "https://t@d/x"], 3: "https://h"}
    [(variable, value)] = withheld(data).items()
    monkeypatch.setenv(variable, value)
    assert restored(json.loads(json.dumps(without_passwords(data)))) == json.loads(json.dumps(data))
    assert WITHHELD not in os.environ
    assert restored({"uri": "sqlite:///x.db"}) == {"uri": "sqlite:///x.db"}
    assert withheld({"uri": "sqlite:///x.db"}) == {}
