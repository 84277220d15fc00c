"""The inventory: machines that a recipe trains on, or puts its servers on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from largeforge.recipe.base import Name, Port, Strict

ADDRESS_PATTERN = "^[A-Za-z0-9_:\\[][A-Za-z0-9_.:%\\]-]*$"
"""Addresses never begin with a dash: ssh would take it for an option."""
SECRET_PATTERN = r"^$|^(env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s:]+|sops:[^\s#]+#[\w.-]+|vault:[^\s#]+#[\w.-]+)$"
"""A secret is never written in an inventory, only where it is."""
FOLDER_PATTERN = r"^/[A-Za-z0-9_./-]*[A-Za-z0-9_-]$"
"""Absolute, and of characters that mean nothing to shells and systemd."""

Role = Literal["train", "serve", "gateway", "monitor"]
SecretRef = Annotated[str, Field(pattern=SECRET_PATTERN)]
"""`env:NAME`, `file:PATH` (readable by nobody else), `sops:FILE#KEY` or `vault:PATH#FIELD`."""
RemoteFolder = Annotated[str, Field(pattern=FOLDER_PATTERN)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]


class Paths(Strict):
    """Where things are kept on a host."""

    root: RemoteFolder = "/opt/largeforge"
    """Environments, models and releases."""
    state: RemoteFolder = "/var/lib/largeforge"
    """What services write: caches of models that they fetch, batches."""
    logs: RemoteFolder = "/var/log/largeforge"
    """Logs of services, rotated."""


class Packages(Strict):
    """Where a host gets Python packages from."""

    proxy: str = Field(default="", pattern=r"^$|^https?://[^\s@]+$")
    """Proxy for pip, and for apt where it has none of its own: `http://host:port`."""
    proxy_password: SecretRef = ""
    """`user:password` for that proxy."""
    index_url: str = Field(default="", pattern=r"^$|^https?://[^\s@]+$")
    """Package index in place of pip's own."""
    index_password: SecretRef = ""
    """`user:password` for that index."""
    wheelhouse: str = ""
    """Folder on the controlling machine that `largeforge bundle` made; it is brought to hosts without internet."""


class Host(Strict):
    """One machine of an inventory."""

    address: str = Field(pattern=ADDRESS_PATTERN)
    """Host name or IP address for ssh, or a name of its configuration; `local` is this machine, without ssh."""
    internal_address: str = Field(default="", pattern=f"^$|{ADDRESS_PATTERN}")
    """Address at which the other hosts reach it, where that is another: a network for training."""
    user: str = Field(default="", pattern="^[A-Za-z0-9_.@-]*$")
    """Account on the host; empty leaves it to ssh."""
    port: Port = 0
    """Port of its ssh server; 0 leaves it to ssh."""
    key: str = ""
    """Private key file for ssh; empty leaves it to ssh: an agent, or its own files."""
    jump: str = Field(default="", pattern=f"^$|^([A-Za-z0-9_.-]+@)?{ADDRESS_PATTERN[1:]}")
    """Host to go through: the name of another one here, or `user@address:port`."""
    sudo: bool = True
    """Whether commands that need root go through sudo; an account that is root needs none."""
    sudo_password: SecretRef = ""
    """Where the password for sudo is, if it asks for one."""
    python: str = ""
    """Interpreter there with LargeForge (and vLLM, where it serves models). Empty: an environment is built there."""
    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """GPUs to use; `auto` reads them from the host."""
    gpu_type: str = Field(default="", pattern="^[a-z0-9_]*$")
    """Choice under `conf/hardware/` that its GPUs are; empty reads it from the host."""
    memory_gib: float = Field(default=0, ge=0)
    """Memory that servers on a host without GPUs may take together; 0 means nearly all that it has."""
    roles: list[Role] = []
    """What it is for: training, model servers, gateways, nothing but monitoring; empty means everything."""
    labels: dict[Label, Label] = {}
    """Properties that experts can ask for."""
    paths: Paths = Paths()
    """Where things are kept."""
    packages: Packages = Packages()
    """Where it gets Python packages from."""

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.address == "local"

    @property
    def reached_at(self) -> str:
        """Address at which the other hosts reach it."""
        return self.internal_address or self.address

    @property
    def num_gpus(self) -> int:
        """GPUs that the inventory gives it, 0 where they are read from it."""
        return 0 if self.gpus == "auto" else self.gpus

    def has_role(self, role: Role) -> bool:
        """Whether it is for that."""
        return not self.roles or role in self.roles


class Queue(Strict):
    """How trainings get their hosts."""

    labels: dict[Label, Label] = {}
    """Labels that a host must have to train this recipe."""
    when_busy: Literal["wait", "refuse"] = "wait"
    """What happens when others compute on all of them: stand in line on each, or end with an error that names them."""
    patience_s: float = Field(default=3600, gt=0)
    """How long a host may be out of reach before this side gives up following; the training there goes on."""


class Hosts(Strict):
    """The inventory: the machines that a recipe may use."""

    name: str
    """Name of the file under `hosts/`."""
    hosts: dict[Name, Host] = Field(min_length=1)
    """Machines by name."""
    queue: Queue = Queue()
    """How trainings get their hosts."""
    common: dict[str, Any] = {}
    """Keys of hosts that hold for all of them, unless a host says otherwise."""
    ssh_config: str = ""
    """Configuration file of OpenSSH's client to use instead of your own."""
    known_hosts: str = ""
    """File with the keys of hosts; empty takes that of ssh."""
    host_key_checking: Literal["accept-new", "yes"] = "accept-new"
    """Whether a host that is not in that file is put there; one whose key has changed is refused in any case."""

    def for_training(self) -> dict[str, Host]:
        """Return the hosts besides this machine that are for training and have the wanted labels."""
        wanted = self.queue.labels.items()
        return {
            name: host
            for name, host in self.hosts.items()
            if not host.is_local and host.has_role("train") and wanted <= host.labels.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _with_common(cls, given: Any) -> Any:
        """Give every host what they have in common; nested keys are merged."""
        common = given.get("common") if isinstance(given, dict) else None
        if not isinstance(common, dict) or not isinstance(given.get("hosts"), dict):
            return given
        hosts = {
            name: _merged(common, host) if isinstance(host, dict) else host for name, host in given["hosts"].items()
        }
        return {**given, "hosts": hosts, "common": {}}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `over` with what `base` has besides."""
    nested = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **over, **nested}
