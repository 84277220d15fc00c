"""How the logs of a host's services are shipped: the configuration of rsyslog or of Vector."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

QUEUE_MIB = 256
"""What waits on the disk while a collector is away."""


def rsyslog(target: str, *, deployment: str, host: str, files: str, state: str) -> str:
    """Return a configuration of rsyslog of its own, which sends every line of some files to a collector (RFC 5424).

    Lines wait in `state` while the collector is away. Over UDP nothing is known of that: they are sent once.
    """
    where = urlsplit(target)
    return "\n".join([
        f'global(workDirectory="{state}" localHostname="{host}" maxMessageSize="64k")',
        'module(load="imfile")',
        f'input(type="imfile" file="{files}" tag="{deployment}" addMetadata="on" ruleset="ship")',
        'template(name="line" type="string" string="<134>1 %timegenerated:::date-rfc3339% %HOSTNAME% '
        f'{deployment} - %$.service% - %msg%\\n")',
        'ruleset(name="ship") {',
        """  set $.service = re_extract($!metadata!filename, '([^/]+)[.]log$', 0, 1, "-");""",
        f'  action(type="omfwd" target="{where.hostname}" port="{where.port}" protocol="{where.scheme}" '
        'template="line"',
        '    action.resumeRetryCount="-1" queue.type="LinkedList" queue.filename="ship"',
        f'    queue.maxDiskSpace="{QUEUE_MIB}m" queue.saveOnShutdown="on")',
        "}",
        "",
    ])  # fmt: skip


def vector(url: str, *, deployment: str, host: str, files: str, state: str) -> dict[str, Any]:
    """Return the content of a configuration of Vector, which sends every line of some files to Loki."""
    return {
        "data_dir": state,
        "sources": {"services": {"type": "file", "include": [files], "read_from": "beginning"}},
        "transforms": {
            "named": {
                "type": "remap",
                "inputs": ["services"],
                "source": '.service = parse_regex!(string!(.file), r\'(?P<name>[^/]+)\\.log$\').name\n',
            }
        },
        "sinks": {
            "loki": {
                "type": "loki",
                "inputs": ["named"],
                "endpoint": url,
                "encoding": {"codec": "text"},
                "labels": {"deployment": deployment, "host": host, "service": "{{ service }}"},
                "buffer": {"type": "disk", "max_size": max(QUEUE_MIB * 2**20, 268435488), "when_full": "drop_newest"},
            }
        },
    }  # fmt: skip
