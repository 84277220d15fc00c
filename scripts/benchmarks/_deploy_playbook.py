"""The same deployment for Ansible: what `largeforge` puts on a host with a model server, as one playbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from largeforge.deploy.desired import agent_files

UNIT = """\
[Unit]
Description=model server
[Service]
ExecStart=/opt/stand-in/python -m vllm.x --model /opt/peer/models/v1 --served-model-name general --host 127.0.0.1 \\
  --port 19000
User=peer
NoNewPrivileges=yes
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
ROTATION = "/var/log/peer/*.log {\n  daily\n  rotate 7\n  copytruncate\n}\n"


def write(folder: Path, *, addresses: dict[str, str], key: Path, known_hosts: Path, models: Path) -> None:
    """Write inventory, configuration and playbook into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ssh = (
        f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes -o ControlMaster=auto -o ControlPersist=60s"
    )
    hosts = "\n".join(f"{name} ansible_host={address}" for name, address in addresses.items())
    (folder / "inventory.ini").write_text(
        f"[all]\n{hosts}\n[all:vars]\nansible_user=deploy\nansible_ssh_private_key_file={key}\n"
        "ansible_python_interpreter=/usr/bin/python3\n"
    )
    (folder / "ansible.cfg").write_text(
        f"[defaults]\nforks = 10\ngathering = explicit\n[ssh_connection]\npipelining = True\nssh_args = {ssh}\n"
        f"control_path_dir = {folder}/cp\n"
    )
    change(folder, models=models, text="one")


def change(folder: Path, *, models: Path, text: str) -> None:
    """Write the playbook; `text` is what one of its files says."""
    (folder / "about.json").write_text(f'{{"deployment": "peer", "about": "{text}"}}\n')
    (folder / "playbook.yaml").write_text(yaml.safe_dump(_playbook(folder, models), sort_keys=False))


def _playbook(folder: Path, models: Path) -> list[dict[str, Any]]:
    folders = [
        "/opt/peer", "/opt/peer/models", "/opt/peer/models/v1", "/opt/peer/agent", "/opt/peer/environments",
        "/opt/peer/incoming", "/opt/peer/release", "/var/lib/peer", "/var/log/peer",
    ]  # fmt: skip
    tasks: list[dict[str, Any]] = [_task("user", {"name": "peer", "system": True, "create_home": False})]
    tasks += [_task("file", {"path": path, "state": "directory", "mode": "0755"}) for path in folders]
    tasks += [_copy(f"/opt/peer/agent/{name}", content=text) for name, text in agent_files().items()]
    tasks += [_copy(f"/opt/peer/models/v1/{path.name}", src=str(path)) for path in sorted(models.iterdir())]
    tasks += [
        _copy("/opt/peer/release/service.json", content="{}\n"),
        _copy("/opt/peer/release/port", content="19000\n"),
    ]
    tasks += [_copy("/opt/peer/release/about.json", src=str(folder / "about.json"))]
    tasks += [_copy("/etc/systemd/system/peer.service", content=UNIT), _copy("/etc/logrotate.d/peer", content=ROTATION)]
    tasks += [_task("systemd", {"name": "peer", "state": "started", "enabled": True, "daemon_reload": False})]
    return [{"hosts": "all", "become": True, "gather_facts": False, "tasks": tasks}]


def _task(module: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"ansible.builtin.{module}": values}


def _copy(path: str, **given: str) -> dict[str, Any]:
    return _task("copy", {"dest": path, "mode": "0644", **given})
