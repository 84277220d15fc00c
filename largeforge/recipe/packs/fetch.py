"""From an entry of `largeforge.yaml` to a pinned pack in the cache. The only part that uses the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import PackError
from largeforge.recipe.packs import address, cache, lockfile, tree
from largeforge.recipe.packs.git import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.packs.project import Entry


def resolve(entry: Entry, base: Path) -> lockfile.Pinned:
    """Fetch what the entry's revision means now, and return what to pin.

    Raises PackError for an address, revision or tree that breaks the rules, FetchError when git fails.
    """
    url = _url(entry.git, base)
    with cache.workspace() as work, Repository(work / "git") as repository:
        commit = repository.resolve(url, entry.rev)
        return lockfile.Pinned(entry.git, entry.rev, commit, _brought(repository, url, commit, work))


def restore(pinned: lockfile.Pinned, base: Path) -> bool:
    """Bring a pinned pack into the cache; return whether anything had to be fetched.

    Raises PackError when what git brings is not what was pinned, FetchError when git fails.
    """
    if cache.is_intact(pinned.sha256):
        return False
    url = _url(pinned.git, base)
    with cache.workspace() as work, Repository(work / "git") as repository:
        sha256 = _brought(repository, url, pinned.commit, work)
    if sha256 != pinned.sha256:
        raise PackError(
            f"{pinned.git} at {pinned.commit} has the content {sha256[:12]}…, but {lockfile.NAME} pins "
            f"{pinned.sha256[:12]}…: the lock was changed by hand, or the repository is not what it was"
        )
    return True


def _url(git: str, base: Path) -> str:
    if rule := address.problem_of(git):
        raise PackError(f"{rule}")
    url = address.for_git(git, base)
    if address.is_folder(git) and not address.is_directory(url):
        raise PackError(f"{git}: there is no such folder")
    return url


def _brought(repository: Repository, url: str, commit: str, work: Path) -> str:
    """Fetch a commit, move its files into the cache and return their hash."""
    repository.fetch(url, commit)
    tree.extract(repository, commit, work / "tree")
    return cache.keep(work / "tree")
