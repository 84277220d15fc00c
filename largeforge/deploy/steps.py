"""What a host should have, one thing at a time: each says what of it differs from what was found, and how to mend that.

Pure: `found` is the `state` that `remote/look.py` tells. pyinfra (`operations.py`) carries the commands out; as root.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

Found = Mapping[str, Any]
CERTIFICATE, KEY = "certificate.pem", "key.pem"
"""Names of the files of a host's certificate."""


@dataclass(frozen=True)
class Step:
    """One thing that a host should have."""

    @property
    def title(self) -> str:
        """Name for people; begins with what would be changed."""
        raise NotImplementedError

    def differs(self, found: Found) -> str:
        """Return in a few words what differs, empty where nothing does."""
        raise NotImplementedError

    def command(self) -> str:
        """Return the line for a shell that mends it; running it again changes nothing more."""
        raise NotImplementedError

    def input(self) -> str:
        """Return what the command reads from its standard input."""
        return ""


@dataclass(frozen=True)
class Account(Step):
    """A system account without a shell."""

    user: str
    home: str
    groups: tuple[str, ...] = ("video", "render")
    """Groups that it joins where they exist, to use GPUs."""

    @property
    def title(self) -> str:
        return f"account {self.user}"

    def differs(self, found: Found) -> str:
        return "" if found["account"] else "new"

    def command(self) -> str:
        user, home = shlex.quote(self.user), shlex.quote(self.home)
        join = " ".join(
            f"if getent group {group} >/dev/null; then usermod -a -G {group} {user}; fi;" for group in self.groups
        )
        add = f"useradd --system --user-group --home-dir {home} --no-create-home --shell /usr/sbin/nologin {user}"
        return f"set -e; id {user} >/dev/null 2>&1 || {add}; {join}"


@dataclass(frozen=True)
class Folder(Step):
    """A folder with its owner and mode."""

    path: str
    user: str = "root"
    mode: str = "755"

    @property
    def title(self) -> str:
        return f"folder {self.path}"

    def differs(self, found: Found) -> str:
        return _differs(found, self.path, kind="folder", user=self.user, mode=self.mode)

    def command(self) -> str:
        path, user = shlex.quote(self.path), shlex.quote(self.user)
        return f"set -e; mkdir -p {path}; chown {user}: {path}; chmod {self.mode} {path}"


@dataclass(frozen=True)
class File(Step):
    """A file with its content; it is the old one or the new, never a part."""

    path: str
    text: str = field(repr=False)
    user: str = "root"
    mode: str = "644"

    @property
    def title(self) -> str:
        return f"file {self.path}"

    def differs(self, found: Found) -> str:
        sha256 = hashlib.sha256(self.text.encode()).hexdigest()
        return _differs(found, self.path, kind="file", user=self.user, mode=self.mode, sha256=sha256)

    def command(self) -> str:
        path, aside = shlex.quote(self.path), shlex.quote(f"{self.path}.new")
        owner = f"chown {shlex.quote(self.user)}: {aside}; chmod {self.mode} {aside}"
        folder = shlex.quote(self.path.rpartition("/")[0])
        written = f"(umask 077; base64 -d > {aside}); {owner}; sync {aside}; mv -f {aside} {path}"
        return f"set -e; umask 022; mkdir -p {folder}; {written}"

    def input(self) -> str:
        return base64.b64encode(self.text.encode()).decode()


@dataclass(frozen=True)
class Checked(File):
    """A file that a program accepts before it takes the place of the old one; who runs with it rereads it then."""

    check: str = ""
    """Line for a shell, in which `{}` is the new file."""
    unit: str = ""
    """Unit that is reloaded, if it is up."""

    def command(self) -> str:
        path, aside = shlex.quote(self.path), shlex.quote(f"{self.path}.new")
        refused = f"rm -f {aside}; exit 1"
        check = f"{{ {self.check.replace('{}', aside)} >&2 || {{ {refused}; }}; }}"
        owner = f"chown {shlex.quote(self.user)}: {aside}; chmod {self.mode} {aside}"
        folder, unit = shlex.quote(self.path.rpartition("/")[0]), shlex.quote(self.unit)
        reload = f"if systemctl is-active --quiet {unit}; then systemctl reload {unit}; fi" if self.unit else ":"
        written = f"(umask 077; base64 -d > {aside}); {check}; {owner}; sync {aside}; mv -f {aside} {path}"
        return f"set -e; umask 022; mkdir -p {folder}; {written}; {reload}"


@dataclass(frozen=True)
class Installed(Step):
    """Programs of the distribution's packages; what packages would start by themselves stays off."""

    programs: tuple[str, ...]
    """Commands that must be there."""
    packages: tuple[str, ...]
    """Packages of apt that bring them; none where only their host's owner can."""
    units: tuple[str, ...] = ()
    """Units of these packages."""
    by_apt: bool = True
    proxy: str = field(default="", repr=False)
    """URL of the proxy that apt goes through, with its password; empty leaves it to apt's own configuration."""

    @property
    def title(self) -> str:
        return f"programs {', '.join(self.programs)}"

    def differs(self, found: Found) -> str:
        missing = [name for name in self.programs if name not in found["programs"]]
        return f"no {', '.join(missing)}" if missing else ""

    def command(self) -> str:
        what = f"packages {' '.join(self.packages)}" if self.packages else f"programs {' '.join(self.programs)}"
        advice = f"install the {what} on this host, and say monitoring.install=present"
        refuse = f"{{ echo {shlex.quote(advice)} >&2; exit 1; }}"
        if not self.by_apt or not self.packages:
            return refuse
        packages = " ".join(map(shlex.quote, self.packages))
        options = "-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=1 -o Acquire::http::Timeout=15"
        through = 'IFS= read -r http_proxy; export http_proxy https_proxy="$http_proxy"; ' if self.proxy else ""
        keep_off = (
            f"for unit in {' '.join(self.units)}; do "
            'if ! systemctl cat "$unit" >/dev/null 2>&1; then '
            'systemctl mask --quiet "$unit"; masked="$masked $unit"; fi; done; '
            'trap \'for unit in $masked; do systemctl unmask --quiet "$unit"; '
            'systemctl disable --quiet "$unit"; done\' EXIT; '
            if self.units
            else ""
        )
        return (
            f'export DEBIAN_FRONTEND=noninteractive LC_ALL=C masked=""; {through}{keep_off}'
            f"apt-get {options} update >/dev/null 2>&1; "
            f"apt-get {options} install --yes --no-install-recommends {packages} >/dev/null || {refuse}; "
            f"PATH=$PATH:/usr/sbin:/sbin; for name in {' '.join(self.programs)}; do "
            f'command -v "$name" >/dev/null || {refuse}; done'
        )

    def input(self) -> str:
        return f"{self.proxy}\n" if self.proxy else ""


@dataclass(frozen=True)
class Credential(Step):
    """A secret, encrypted by the host's own systemd for its units; what is written can be read on no other host."""

    path: str
    name: str
    secret: str = field(repr=False)

    @property
    def title(self) -> str:
        return f"secret {self.name}"

    def differs(self, found: Found) -> str:
        known = found["credentials"].get(self.name)
        if known is None:
            return "new"
        return "" if known == hashlib.sha256((found["salt"] + self.secret).encode()).hexdigest() else "another value"

    def command(self) -> str:
        path, aside = shlex.quote(self.path), shlex.quote(f"{self.path}.new")
        folder = shlex.quote(self.path.rpartition("/")[0])
        encrypt = f"systemd-creds encrypt --quiet --with-key=auto --name={shlex.quote(self.name)} - {aside} 2>/dev/null"
        return f"set -e; umask 077; mkdir -p {folder}; base64 -d | {encrypt}; mv -f {aside} {path}"

    def input(self) -> str:
        return base64.b64encode(self.secret.encode()).decode()


@dataclass(frozen=True)
class Certificate(Step):
    """A key that a host makes for itself, and the certificate for it, which it signs itself."""

    folder: str
    names: tuple[str, ...]
    """Names and addresses that it is for."""
    user: str
    """Account whose group may read the key."""
    days: int

    @property
    def title(self) -> str:
        return f"certificate for {', '.join(self.names)} ({self.days} days)"

    def differs(self, found: Found) -> str:
        return "" if {f"{self.folder}/{CERTIFICATE}", f"{self.folder}/{KEY}"} <= found["paths"].keys() else "new"

    def command(self) -> str:
        folder, aside, user = (shlex.quote(word) for word in (self.folder, f"{self.folder}.new", self.user))
        make = (
            "openssl req -x509 -config /dev/stdin -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 "
            '-subj "/O=LargeForge/CN=$(openssl rand -hex 12)" '  # two of one name would be taken for each other
            f"-days {self.days} -keyout {aside}/{KEY} -out {aside}/{CERTIFICATE} 2>&1"
        )
        rights = f"chmod 755 {aside}; chmod 644 {aside}/{CERTIFICATE}; chown root: {aside}/{CERTIFICATE}"
        key = f"chown root:{user} {aside}/{KEY}; chmod 640 {aside}/{KEY}"
        return (
            f"set -e; umask 077; rm -rf {aside} {folder}; mkdir -p {aside}; {make}; {rights}; {key}; "
            f"sync {aside}/*; mv -T {aside} {folder}"
        )

    def input(self) -> str:
        listed = ",".join(f"{'IP' if _is_ip(name) else 'DNS'}:{name}" for name in self.names)
        return "\n".join([
            "[req]", "prompt = no", "distinguished_name = subject", "x509_extensions = extensions",
            "[subject]", "[extensions]", f"subjectAltName = {listed}", "basicConstraints = critical,CA:TRUE",
            "keyUsage = critical,digitalSignature,keyCertSign", "extendedKeyUsage = serverAuth,clientAuth",
            "subjectKeyIdentifier = hash", "authorityKeyIdentifier = keyid", "",
        ])  # fmt: skip


@dataclass(frozen=True)
class Link(Step):
    """A link that points to something beside it."""

    path: str
    target: str

    @property
    def title(self) -> str:
        return f"link {self.path}"

    def differs(self, found: Found) -> str:
        entry = found["paths"].get(self.path)
        if entry is None:
            return "new"
        return "" if entry.get("target") == self.target else f"{entry.get('target', entry['kind'])} → {self.target}"

    def command(self) -> str:
        path, aside = shlex.quote(self.path), shlex.quote(f"{self.path}.new")
        return f"set -e; ln -sfn {shlex.quote(self.target)} {aside}; mv -fT {aside} {path}"


@dataclass(frozen=True)
class Gone(Step):
    """Something of ours that is not needed any more."""

    path: str

    @property
    def title(self) -> str:
        return f"remove {self.path}"

    def differs(self, found: Found) -> str:
        return "left over" if self.path in found["paths"] else ""

    def command(self) -> str:
        return f"rm -rf -- {shlex.quote(self.path)}"


@dataclass(frozen=True)
class Removed(Step):
    """A unit of ours that is not wanted any more, with its files."""

    unit: str
    paths: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"remove {self.unit}"

    def differs(self, found: Found) -> str:
        return "left over" if any(path in found["paths"] for path in self.paths) else ""

    def command(self) -> str:
        unit, paths = shlex.quote(self.unit), " ".join(map(shlex.quote, self.paths))
        return f"systemctl disable --quiet --now {unit} || true; rm -f -- {paths}; systemctl daemon-reload"


@dataclass(frozen=True)
class Enabled(Step):
    """A unit that starts with the host."""

    unit: str

    @property
    def title(self) -> str:
        return f"enable {self.unit}"

    def differs(self, found: Found) -> str:
        state = found["units"].get(self.unit, {}).get("UnitFileState", "")
        return "" if state == "enabled" else f"{state or 'new'}"

    def command(self) -> str:
        return f"systemctl enable --quiet {shlex.quote(self.unit)}"


@dataclass(frozen=True)
class Reloaded(Step):
    """systemd knows the unit files as they are."""

    files: tuple[File, ...]

    @property
    def title(self) -> str:
        return "systemd reads unit files"

    def differs(self, found: Found) -> str:
        if any(file.differs(found) for file in self.files):
            return "unit files change"
        stale = [name for name, unit in found["units"].items() if unit.get("NeedDaemonReload") == "yes"]
        return f"{', '.join(stale)} changed on disk" if stale else ""

    def command(self) -> str:
        return "systemctl daemon-reload"


@dataclass(frozen=True)
class Running(Step):
    """A unit of ours that is up, with its files as they are."""

    unit: str
    files: tuple[Step, ...]
    """What it reads only when it starts."""

    @property
    def title(self) -> str:
        return f"start {self.unit}"

    def differs(self, found: Found) -> str:
        state = found["units"].get(self.unit, {}).get("ActiveState", "new")
        if state != "active":
            return str(state)
        return "its file changes" if any(file.differs(found) for file in self.files) else ""

    def command(self) -> str:
        return f"systemctl restart {shlex.quote(self.unit)}"


@dataclass(frozen=True)
class Answering(Running):
    """A unit of ours that is up and answers."""

    url: str = ""
    """Address on its host that answers with 200 when it is ready."""
    log: str = ""
    """File whose last lines say why it does not."""
    timeout_s: int = 60

    def command(self) -> str:
        unit = shlex.quote(self.unit)
        ask = shlex.quote(
            "import sys, urllib.request as r; "
            "r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=5).read()"
        )  # fmt: skip
        ready = f"python3 -c {ask} {shlex.quote(self.url)} 2>/dev/null && systemctl is-active --quiet {unit}"
        last = f"tail -n 3 {shlex.quote(self.log)} >&2" if self.log else ":"
        return (
            f"systemctl restart {unit} || exit 1; "
            f"for _ in $(seq {self.timeout_s}); do if {ready}; then exit 0; fi; sleep 1; done; "
            f"{last}; echo {shlex.quote(f'{self.unit} does not answer at {self.url}')} >&2; exit 1"
        )


@dataclass(frozen=True)
class Made(Step):
    """Something that a command makes under a name; what is made once does not change."""

    what: str
    """`environments` or `models`: the part of what was found that lists it."""
    key: str
    label: str
    line: str
    stdin: str = field(default="", repr=False)

    @property
    def title(self) -> str:
        return self.label

    def differs(self, found: Found) -> str:
        there = found[self.what].get(self.key)
        if there is None:
            return "new"
        changed = there.get("changed", [])
        return f"{len(changed)} files are not what was verified ({', '.join(changed[:3])})" if changed else ""

    def command(self) -> str:
        return self.line

    def input(self) -> str:
        return self.stdin


def changes(steps: Sequence[Step], found: Found) -> list[tuple[Step, str]]:
    """Return the steps that would change something, with what differs."""
    return [(step, reason) for step in steps if (reason := step.differs(found))]


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _differs(found: Found, path: str, **wanted: str) -> str:
    """Return what is different of a path, from what is there at all down to its mode."""
    entry = found["paths"].get(path)
    if entry is None:
        return "new"
    if entry["kind"] != wanted["kind"]:
        return f"is a {entry['kind']}"
    if wanted.get("sha256", entry.get("sha256")) != entry.get("sha256"):
        return "content differs"
    parts = [f"{key} {entry[key]} → {wanted[key]}" for key in ("user", "mode") if entry[key] != wanted[key]]
    return ", ".join(parts)
