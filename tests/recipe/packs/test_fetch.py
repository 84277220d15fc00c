"""Fetching from git: hostile repositories act on nothing, and what is pinned stays pinned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from largeforge.recipe.packs import cache, tree
from tests.recipe.packs.conftest import PACK, Author


def add(work, author, rev="v1", alias="acme", code=2):
    return work.refused("packs", "add", str(author.path), "--rev", rev, "--as", alias, code=code)


def nothing_was_kept(work):
    left = {path.name for path in cache.root().glob("*")} if cache.root().exists() else set()
    return not left and sorted(path.name for path in work.path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "path", "content", "rule"),
    [
        ("120000", "recipes/passwd.yaml", "/etc/passwd", "recipes/passwd.yaml: is a symbolic link"),
        ("120000", "recipes", "/etc", "recipes: is a symbolic link"),
        ("120000", "pack.yaml", "/etc/passwd", "pack.yaml: is a symbolic link"),
        ("100644", "recipes", "a file", "recipes: is no folder"),
        ("100644", "recipes/-x.yaml", "a: 1", "recipes/-x.yaml': a name has letters"),
        ("100644", "recipes/.hidden.yaml", "a: 1", "recipes/.hidden.yaml': a name has letters"),
        ("100644", "recipes/a b.yaml", "a: 1", "recipes/a b.yaml'"),
        ("100644", "recipes/a\x1b[31m.yaml", "a: 1", r"a\x1b[31m.yaml'"),
        ("100644", "recipes/SUPPORT_bot.yaml", "a: 1", "differs from recipes/SUPPORT_bot.yaml only in its case"),
        ("100644", f"recipes/{'a/' * 9}x.yaml", "a: 1", "nested deeper than 8"),
        ("100644", f"recipes/{'a' * 120}.yaml", "a: 1", "at most 100 characters"),
    ],
)
def test_entries_that_are_no_plain_files_are_refused(work, author, mode, path, content, rule):
    if path != "recipes":
        author.publish(PACK)
    author.publish_entry(mode, path, content, tag="v1")
    assert rule in add(work, author)
    assert nothing_was_kept(work)


@pytest.mark.parametrize("name", [b"..", b".", b".git", b"a/b", b"../../home/evil", b""])
def test_trees_made_by_hand_are_refused(work, author, name, tmp_path):
    """Git itself would not write such names; a hostile server sends them."""
    author.publish(PACK)
    blob = bytes.fromhex(author.git("hash-object", "-w", "--stdin", stdin=b"evil"))
    inner = author.git(
        "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=b"100644 %b\0%b" % (name, blob)
    )
    author.publish_tree(b"40000 recipes\0" + bytes.fromhex(inner), tag="evil")
    err = work.run("packs", "add", str(author.path), "--rev", "evil", "--as", "acme")
    assert err[0] != 0
    assert nothing_was_kept(work)
    assert not (tmp_path / "home" / "evil").exists()


def test_a_submodule_is_refused(work, author):
    commit = author.publish(PACK)
    author.git("update-index", "--add", "--cacheinfo", f"160000,{commit},recipes/sub")
    author._committed("v1")
    assert "recipes/sub: is a submodule" in add(work, author)


def test_what_is_no_part_of_a_pack_is_not_looked_at(work, author):
    author.publish({**PACK, "README.md": "hello", ".github/x.yml": "a: 1", "recipes/data/.gitkeep": "", "src/a.py": ""})
    author.publish_entry("120000", "link", "/etc/passwd", tag="v1")
    assert work.ok("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    folder = next(cache.root().iterdir())
    assert set(tree.scan(folder)) == set(PACK)
    assert {file.stat().st_mode & 0o777 for file in tree.scan(folder).values()} == {0o444}


def test_filters_attributes_and_hooks_play_no_part(work, author, tmp_path):
    """Of the repository, of its folder on this machine, and of the user's own git."""
    marker = tmp_path / "marker"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    script.chmod(0o755)
    author.publish({**PACK, ".gitattributes": "* filter=evil text eol=crlf ident\n"}, tag="v1")
    names = (
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "post-index-change",
    )
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in names:
        for folder in (author.path / ".git" / "hooks", hooks):
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to(script)
    config = {
        "filter.evil.smudge": str(script), "filter.evil.process": str(script), "core.fsmonitor": str(script),
        "core.hooksPath": str(hooks), "core.alternateRefsCommand": str(script), "core.sshCommand": str(script),
        "uploadpack.packObjectsHook": str(script),
    }  # fmt: skip
    for key, value in config.items():
        author.git("config", key, value)
    (tmp_path / "home" / ".gitconfig").write_text(
        f'[core]\n hooksPath = {hooks}\n fsmonitor = {script}\n[filter "evil"]\n smudge = {script}\n'
    )
    assert work.ok("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    assert not marker.exists()
    folder = next(cache.root().iterdir())
    assert (folder / "recipes/support_bot.yaml").read_text() == PACK["recipes/support_bot.yaml"]


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% {marker}", "ext::sh%20-c%20touch", "--upload-pack=touch {marker}", "-u", "fd::17",
        "file:///etc", "http://example.com/x", "git://example.com/x", "https://user:s3cret@example.com/x",
        "https://s3cret@example.com/x", "https://example.com/x?private_token=s3cret", "ssh://-oProxyCommand=touch/x",
        "ssh://git:s3cret@example.com/x", "git@-oProxyCommand=x:y", "https://example.com/a b", "https://example.com/\n",
        "https://", "ssh://a@b@c/x", "example.com:x", "x" * 600, "HTTP://u:s3cret@example.com/x",
    ],
)  # fmt: skip
def test_addresses_that_name_programs_or_hold_secrets_are_refused_and_not_repeated(work, url, tmp_path):
    url = url.format(marker=tmp_path / "marker")
    code, out, err = work.run("packs", "add", "--rev=v1", "--as=acme", "--", url)
    assert code in (1, 2), (out, err)
    assert "s3cret" not in out + err
    assert nothing_was_kept(work)
    assert not (tmp_path / "marker").exists()
    work.write("largeforge.yaml", f"packs: [{{git: {json.dumps(url)}, rev: v1, as: acme}}]\n")
    err = work.refused("+recipe=quickstart", "mode=plan")
    assert "packs.git" in err
    assert "s3cret" not in err


@pytest.mark.parametrize(
    "rev", ["--upload-pack=x", "-x", "a..b", "a@{1}", "a b", "v1^{commit}", ":x", "a/.b", "x.lock", "a//b"]
)
def test_revisions_that_are_options_or_expressions_are_refused(work, author, rev):
    assert "--rev: not a revision" in work.refused("packs", "add", str(author.path), f"--rev={rev}", "--as", "acme")


def test_a_wrong_revision_is_answered_with_those_that_there_are(work, published):
    err = add(work, published, rev="mains")
    assert "has no tag or branch mains; there is: main, v1. Did you mean 'main'?" in err
    commit = published.git("rev-parse", "HEAD")
    assert "all its 40 digits" in add(work, published, rev=commit[:8])
    assert work.ok("packs", "add", str(published.path), "--rev", commit, "--as", "acme")


def test_a_repository_that_is_not_there(work, tmp_path):
    assert "no such folder" in work.refused("packs", "add", str(tmp_path / "no"), "--rev", "v1", "--as", "acme")
    (tmp_path / "plain").mkdir()
    err = work.refused("packs", "add", str(tmp_path / "plain"), "--rev", "v1", "--as", "acme", code=1)
    assert "git ls-remote failed" in err


def test_without_git_the_message_says_so(work, published, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    err = work.refused("packs", "add", str(published.path), "--rev", "v1", "--as", "acme", code=1)
    assert "git is not installed" in err


def test_too_much_is_refused(work, author, monkeypatch):
    author.publish({**PACK, **{f"recipes/data/f{i}.txt": str(i) for i in range(1001)}}, tag="v1")
    assert "more than 1000 files" in add(work, author)
    monkeypatch.setattr(tree, "MAX_FILE_BYTES", 1000)
    author.publish({"recipes/data/big.jsonl": "x" * 1001}, tag="v2")
    assert "at most 1000 are read" in add(work, author, rev="v2")
    assert nothing_was_kept(work)


def test_a_download_without_end_is_cut(work, author, monkeypatch):
    from largeforge.recipe.packs import git

    author.publish({**PACK, "big.bin": os.urandom(3 * 2**20)}, tag="v1")
    monkeypatch.setattr(git, "MAX_DOWNLOAD_BYTES", 2**20)
    err = add(work, author, code=1)
    assert "git" in err or "larger than" in err
    assert nothing_was_kept(work)


def test_a_small_repository_that_unfolds_to_endless_files_is_refused(work, author):
    """A tree of ten times the same tree, ten levels deep: ten thousand million files in a few hundred bytes."""
    author.publish(PACK)
    blob = bytes.fromhex(author.git("hash-object", "-w", "--stdin", stdin=b"a: 1\n"))
    tree_id = b"".join(b"100644 f%d\0%b" % (i, blob) for i in range(10))
    for _ in range(10):
        oid = author.git("hash-object", "-t", "tree", "-w", "--stdin", stdin=tree_id)
        tree_id = b"".join(b"40000 d%d\0%b" % (i, bytes.fromhex(oid)) for i in range(10))
    oid = author.git("hash-object", "-t", "tree", "-w", "--stdin", stdin=tree_id)
    author.publish_tree(b"40000 recipes\0" + bytes.fromhex(oid), tag="bomb")
    assert "nested deeper than 8" in add(work, author, rev="bomb")
    assert nothing_was_kept(work)


def test_the_lock_keeps_a_commit_until_it_is_updated(using, published):
    before, first = using.lock(), published.git("rev-parse", "v1")
    second = published.publish({"recipes/support_bot.yaml": PACK["recipes/support_bot.yaml"] + "seed: 7\n"}, tag="v1")
    using.ok("packs", "fetch")
    assert using.lock() == before
    assert "seed: 42" in using.ok("+recipe=acme/support_bot", "--cfg", "job")
    assert f"acme: from {first[:12]} to {second[:12]}" in using.ok("packs", "update", "acme")
    assert "seed: 7" in using.ok("+recipe=acme/support_bot", "--cfg", "job")
    assert json.loads(using.lock())["packs"]["acme"]["commit"] == second


def test_the_lock_has_the_same_bytes_in_any_order_and_on_any_machine(work, published, tmp_path):
    other = Author(tmp_path / "other")
    other.publish(PACK, tag="v1")
    locks = []
    for order in (("a", "b"), ("b", "a")):
        for alias in order:
            source = published if alias == "a" else other
            work.ok("packs", "add", str(source.path), "--rev", "v1", "--as", alias)
        locks.append(work.lock())
        for alias in order:
            work.ok("packs", "remove", alias)
    assert locks[0] == locks[1]


def test_a_fresh_clone_needs_only_fetch(using, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    err = using.refused("+recipe=acme/support_bot", "mode=plan")
    assert "pack acme is not fetched: python -m largeforge packs fetch" in err
    assert not (tmp_path / "new").exists(), "composing fetches nothing by itself"
    assert "quickstart" in using.ok("+recipe=quickstart", "mode=plan")
    assert "acme: fetched" in using.ok("packs", "fetch")
    assert "acme: is there" in using.ok("packs", "fetch")
    assert "to do" in using.ok("+recipe=acme/support_bot", "mode=plan")


def test_a_commit_that_was_pushed_away_is_named(using, published, monkeypatch, tmp_path):
    commit = published.git("rev-parse", "v1")
    published.publish({"recipes/support_bot.yaml": "name: other\n"})
    published.git("tag", "--delete", "v1")
    published.git("checkout", "--quiet", "--orphan", "new")
    published.publish({}, tag="v1")
    published.git("branch", "--delete", "--force", "main")
    published.git("reflog", "expire", "--expire=now", "--all")
    published.git("gc", "--quiet", "--prune=now")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    err = using.refused("packs", "fetch", code=1)
    assert f"no longer has commit {commit}" in err
    assert "packs update" in err


def test_content_that_is_not_the_pinned_one_is_refused(using, monkeypatch, tmp_path):
    lock = json.loads(using.lock())
    lock["packs"]["acme"]["sha256"] = "0" * 64
    using.write("packs.lock", json.dumps(lock))
    assert "pins 000000000000…" in using.refused("packs", "fetch")
    assert "is not fetched" in using.refused("+recipe=acme/support_bot", "mode=plan")


@pytest.mark.parametrize("how", ["changed", "added", "removed", "link"])
def test_a_pack_that_was_changed_in_the_cache_is_noticed_and_fetched_again(using, how):
    folder = next(cache.root().iterdir())
    file = folder / "recipes" / "data" / "shop.jsonl"
    if how == "changed":
        file.chmod(0o644)
        file.write_text("evil\n")
    elif how == "added":
        (folder / "recipes" / "more.yaml").write_text("name: more\n")
    else:
        file.unlink()
        if how == "link":
            file.symlink_to("/etc/passwd")
    assert "are not what packs.lock pins" in using.refused("+recipe=acme/support_bot", "mode=plan")
    assert "acme: fetched" in using.ok("packs", "fetch")
    assert "to do" in using.ok("+recipe=acme/support_bot", "mode=plan")
    assert len(list(cache.root().iterdir())) == 1


def test_a_fetch_that_is_killed_leaves_nothing_half_done(using, published, monkeypatch, tmp_path):
    """Killed at the moment when the files are written; the next fetch cleans up and succeeds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    program = (
        "import os, signal\n"
        "from largeforge.recipe.packs import cache\nfrom largeforge.cli import main\n"
        "cache.keep = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(['packs', 'fetch'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert ran.returncode == -signal.SIGKILL
    left = list(cache.root().iterdir())
    assert [path.name.startswith(".work-") for path in left] == [True]
    assert "is not fetched" in using.refused("+recipe=acme/support_bot", "mode=plan")
    using.ok("packs", "fetch")
    assert [len(path.name) for path in cache.root().iterdir()] == [64]
    assert "to do" in using.ok("+recipe=acme/support_bot", "mode=plan")


def test_two_fetches_at_once_both_succeed(using, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    argv = [sys.executable, "-m", "largeforge", "packs", "fetch"]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in both] == [b"", b"", b""]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert [len(path.name) for path in cache.root().iterdir()] == [64]


def test_packs_that_are_added_at_once_are_all_written_down(work, published, tmp_path):
    argv = [sys.executable, "-m", "largeforge", "packs", "add", str(published.path), "--rev", "v1", "--as"]
    started = [subprocess.Popen([*argv, alias], stdout=subprocess.DEVNULL) for alias in ("a", "b", "c")]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert sorted(json.loads(work.lock())["packs"]) == ["a", "b", "c"]
    assert (work.path / "largeforge.yaml").read_text().count("as: ") == 3


def test_messages_of_a_server_cannot_steer_the_terminal_or_show_a_password(work, tmp_path):
    """A git that answers with escape sequences and an address with a password, as a rewritten one would be."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nprintf 'fatal: \\033[2J https://me:s3cret@example.com/x refused\\n' >&2\nexit 128\n")
    fake.chmod(0o755)
    path = os.environ["PATH"]
    (tmp_path / "plain").mkdir()
    os.environ["PATH"] = f"{fake.parent}:{path}"
    try:
        err = work.refused("packs", "add", str(tmp_path / "plain"), "--rev", "v1", "--as", "acme", code=1)
    finally:
        os.environ["PATH"] = path
    assert "refused" in err
    assert "s3cret" not in err
    assert "\x1b" not in err


def test_git_gets_no_more_of_the_environment_than_it_needs(monkeypatch):
    from largeforge.recipe.packs.git import environment

    monkeypatch.setenv("HF_TOKEN", "s3cret")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_EXEC_PATH", "/tmp/evil")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    given = environment()
    assert not {"HF_TOKEN", "GIT_CONFIG_COUNT", "GIT_EXEC_PATH"} & given.keys()
    assert given["https_proxy"] == "http://proxy.example"
    assert (given["GIT_TERMINAL_PROMPT"], given["GIT_CONFIG_NOSYSTEM"]) == ("0", "1")
    assert given["GIT_ALLOW_PROTOCOL"] == "https:ssh:file"


def test_workspaces_of_living_processes_are_left_alone():
    inside, done = threading.Event(), threading.Event()

    def work_there():
        with cache.workspace() as folder:
            (folder / "file").touch()
            inside.set()
            done.wait(30)

    thread = threading.Thread(target=work_there)
    thread.start()
    inside.wait(30)
    with cache.workspace():
        assert len(list(cache.root().glob(".work-*/file"))) == 1
    done.set()
    thread.join()
    assert list(cache.root().iterdir()) == []
    assert Path(cache.root()).is_dir()
