"""Fetch a secret from where an inventory or a recipe says it is, at the moment it is used.

    env:NAME          a variable of this process's environment
    file:PATH         a file that nobody else may read (mode 600 or 400)
    sops:FILE#KEY     one value of a file that sops decrypts
    vault:PATH#FIELD  one field of a secret in HashiCorp Vault's KV store (VAULT_ADDR, VAULT_TOKEN)

The value is returned and kept nowhere; errors name the reference and never the value.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from largeforge.errors import SecretError

SOPS_TIMEOUT_S = 30
VAULT_TIMEOUT_S = 10


def fetch(reference: str) -> str:
    """Return the secret that a reference names.

    Raises SecretError when it cannot be had.
    """
    scheme, _, rest = reference.partition(":")
    found = _FETCH[scheme](rest, reference)
    if not found:
        raise SecretError(f"{reference}: it is empty")
    return found


def within(url: str, reference: str) -> str:
    """Return a URL with the `user:password` that a reference names, if it names one.

    Raises SecretError when it cannot be had.
    """
    if not url or not reference:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{fetch(reference)}@{rest}"


def _from_environment(name: str, reference: str) -> str:
    if name not in os.environ:
        raise SecretError(f"{reference}: {name} is not set in the environment")
    return os.environ[name]


def _from_file(name: str, reference: str) -> str:
    path = Path(name).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise SecretError(f"{reference}: others can read it; chmod 600 {path}")
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise SecretError(f"{reference}: {error.strerror or error}") from None


def _from_sops(rest: str, reference: str) -> str:
    name, _, key = rest.rpartition("#")
    place = "".join(f"[{json.dumps(part)}]" for part in key.split("."))
    argv = ["sops", "decrypt", "--extract", place, str(Path(name).expanduser())]
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=SOPS_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SecretError(f"{reference}: sops cannot be run: {error}") from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        raise SecretError(f"{reference}: sops refuses: {said[-1] if said else f'exit code {ended.returncode}'}")
    return ended.stdout.rstrip("\n")


def _from_vault(rest: str, reference: str) -> str:
    path, _, field = rest.rpartition("#")
    address, token = os.environ.get("VAULT_ADDR", ""), os.environ.get("VAULT_TOKEN", "")
    if not address or not token:
        raise SecretError(f"{reference}: VAULT_ADDR and VAULT_TOKEN must be set")
    request = urllib.request.Request(f"{address.rstrip('/')}/v1/{path}", headers={"X-Vault-Token": token})
    try:
        with urllib.request.urlopen(request, timeout=VAULT_TIMEOUT_S) as answer:
            data = json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise SecretError(f"{reference}: Vault answers {error.code}") from None
    except (OSError, ValueError, LookupError) as error:
        raise SecretError(f"{reference}: Vault at {address} cannot be asked: {type(error).__name__}") from None
    values = data["data"] if isinstance(data.get("data"), dict) else data  # version 2 of the store nests once more
    if not isinstance(values.get(field), str):
        raise SecretError(f"{reference}: the secret has no field {field!r}")
    return str(values[field])


_FETCH = {"env": _from_environment, "file": _from_file, "sops": _from_sops, "vault": _from_vault}
