"""Addresses and revisions that git may be given: https, ssh, or a folder of this machine.

Whatever could be taken for an option, name a program (`ext::`), or carry a password is refused, and
a refused address is never repeated in the message when it may hold a password.
"""

from __future__ import annotations

import re
from pathlib import Path

PROTOCOLS = ("https", "ssh", "file")
"""What git itself is allowed to speak; `file` serves folders only."""

MAX_LENGTH = 500

_HTTPS = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?(/[A-Za-z0-9._~+%-]+)+/?")
_SSH = re.compile(r"ssh://([A-Za-z0-9][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?(/[A-Za-z0-9._~+%-]+)+/?")
_SCP = re.compile(r"[A-Za-z0-9][\w.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z0-9._~/+%-]+")
_FOLDER = re.compile(r"[A-Za-z0-9._~/][^:\x00-\x1f\x7f]*")
_REV = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]*@|(?<=[?&])[^\s'\"]*")


def problem_of(git: str) -> str:
    """Return what is wrong with an address, or an empty string; the address itself is never in the text."""
    if len(git) > MAX_LENGTH:
        return f"an address has at most {MAX_LENGTH} characters"
    if git.startswith("-"):
        return "an address cannot begin with a dash"
    scheme = git.partition("://")[0].lower() if "://" in git else ""
    if scheme in ("http", "https") and "@" in git.partition("://")[2].partition("/")[0]:
        return (
            "an address with a user or a password in it would be written into packs.lock; leave it out, and let "
            "git's credential helper, ~/.netrc or ssh prove who you are"
        )
    if scheme and scheme not in ("https", "ssh"):
        return "only https:// and ssh:// addresses and folders of this machine are fetched"
    patterns = {"https": (_HTTPS,), "ssh": (_SSH,), "": (_FOLDER, _SCP)}[scheme]
    if "::" in git or not any(pattern.fullmatch(git) for pattern in patterns):
        return "not an address: write https://host/path, ssh://user@host/path, user@host:path or a folder"
    return ""


def is_folder(git: str) -> bool:
    """Tell whether a sound address is a folder of this machine."""
    return "://" not in git and _SCP.fullmatch(git) is None


def for_git(git: str, base: Path) -> str:
    """Return a sound address as git takes it; a relative folder is below `base`."""
    return str((base / Path(git).expanduser()).resolve()) if is_folder(git) else git


def is_directory(url: str) -> bool:
    """Tell whether an address as git takes it is a folder that exists."""
    return Path(url).is_dir()


def problem_of_rev(rev: str) -> str:
    """Return what is wrong with a revision, or an empty string."""
    parts = rev.split("/")
    unsound = ".." in rev or any(not part or part.startswith(".") or part.endswith((".", ".lock")) for part in parts)
    if unsound or not _REV.fullmatch(rev):
        return "not a revision: write a tag, a branch, or a commit with all its 40 digits"
    return ""


def is_commit(rev: str) -> bool:
    """Tell whether a revision is a whole commit id."""
    return _COMMIT.fullmatch(rev) is not None


def without_credentials(text: str) -> str:
    """Return a message of git's without what stands before the @, or behind the ?, of an address in it."""
    return _CREDENTIALS.sub("", text)
