"""Say what a host is and what of a deployment is on it, as one line of JSON; changes nothing.

The request is JSON on the command line: `root`, `state` and `logs` (folders), `deployment`, `user`. Without a
deployment only the machine is described.
"""

from __future__ import annotations

import csv
import ctypes
import glob
import grp
import hashlib
import json
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import time

MOST_TEXT_BYTES = 4194304
"""Largest file whose text is told, so that a difference can be shown."""
SMI_TIMEOUT_S = 10
UNITS = "/etc/systemd/system"
TOOLS = ("rsync", "openssl", "systemctl", "systemd-run", "systemd-creds", "nft", "logrotate", "uv", "nvidia-smi")
PROGRAMS = (
    "prometheus", "promtool", "prometheus-alertmanager", "amtool", "prometheus-node-exporter", "rsyslogd", "vector",
)  # fmt: skip
"""What monitoring runs."""
LIBRARIES = ("libnuma.so.1",)
"""What vLLM's CPU build loads and no wheel brings."""
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,ActiveEnterTimestampMonotonic,NRestarts,Result,NeedDaemonReload,"
    "FragmentPath"
)
OWNERS = (
    r"^ReadWritePaths=\S*/([^/\s]+)/[^/\s]+$",  # a folder of its state: servers, gateways, what monitors
    r"/run/largeforge/([^/\s]+)/",  # servers, gateways, the holder of their socket, switches
    r"/deployments/([^/\s]+)/firewall\.nft",
)
"""Where the file of a unit names its deployment."""


def main(request):
    """Return all that is known."""
    found = {"machine": machine(request.get("root") or "/")}
    if request.get("deployment"):
        found["state"] = {**state(request), "gpus": found["machine"]["gpus"]}
    return found


def machine(root):
    """Describe the host itself."""
    memory = meminfo()
    return {
        "hostname": platform.node(),
        "system": system(),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "systemd": systemd_version(),
        "init": os.path.exists("/run/systemd/system"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": limited(memory.get("MemTotal", 0)),
        "free_bytes": min(memory.get("MemAvailable", 0), limited(memory.get("MemTotal", 0))),
        "disk_free_bytes": disk(root),
        "deployments": deployments(root),
        "boot": read("/proc/sys/kernel/random/boot_id").strip(),
        "uptime_s": float((read("/proc/uptime") or "0").split()[0]),
        "time": time.time(),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "libraries": [name for name in LIBRARIES if has_library(name)],
        "tools": [name for name in TOOLS if is_there(name)],
        **gpus(),
    }


def state(request):
    """Describe a deployment: its files with hashes, its units, and what is shared among deployments."""
    root, name = request["root"], request["deployment"]
    known = [*deployments(root), name]
    patterns = (
        os.path.join(root, "deployments", name),
        os.path.join(request["state"], name, "gateway", "gateway.json"),
        os.path.join(root, "agent"),
        "/etc/logrotate.d/largeforge-%s" % name,
        "/etc/grafana/provisioning/*/largeforge-%s.yaml" % name,
        "/etc/largeforge/%s" % name,
    )
    paths = {}
    for top in [
        root,
        os.path.join(root, "models"),
        os.path.join(root, "environments"),
        os.path.join(root, "incoming"),
        request["state"],
        request["logs"],
        os.path.join(request["state"], name),
        os.path.join(request["logs"], name),
        *glob.glob(os.path.join(request["state"], name, "*")),
    ]:
        describe(top, paths)
    for pattern in patterns:
        for top in sorted(glob.glob(pattern)):
            walk(top, paths)
    for top in sorted(glob.glob(os.path.join(UNITS, "largeforge-%s-*" % name))):
        if owner(os.path.basename(top), known) == name:
            walk(top, paths)
    return {
        "account": account(request["user"]),
        "free_bytes": min(meminfo().get("MemAvailable", 0), limited(1 << 62)),
        "paths": paths,
        "units": units(name, known),
        "models": models(os.path.join(root, "models")),
        "environments": environments(os.path.join(root, "environments")),
        "incoming": sorted(os.listdir(os.path.join(root, "incoming")))
        if os.path.isdir(os.path.join(root, "incoming"))
        else [],
        "taken_ports": listening(),
        "programs": [program for program in PROGRAMS if is_there(program)],
        "salt": request.get("salt", ""),
        "credentials": credentials("/etc/largeforge/%s" % name, request.get("salt", "")),
        "others": others(root, name),
    }


def walk(top, paths):
    """Describe a file or a folder and all that is in it."""
    describe(top, paths)
    if os.path.isdir(top) and not os.path.islink(top):
        for name in sorted(os.listdir(top)):
            walk(os.path.join(top, name), paths)


def describe(path, paths):
    """Add what is known of one path, nothing where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    kind = "link" if os.path.islink(path) else "folder" if os.path.isdir(path) else "file"
    entry = {
        "kind": kind,
        "mode": "%o" % (found.st_mode & 0o7777),
        "user": name_of(pwd.getpwuid, found.st_uid),
        "group": name_of(grp.getgrgid, found.st_gid),
    }
    if kind == "link":
        entry["target"] = os.readlink(path)
    elif kind == "file":
        entry.update(size=found.st_size, changed=found.st_mtime, **content(path, found.st_size))
    paths[path] = entry


def content(path, size):
    """Return the hash of a file, and its text where that is short; secrets are never told."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        return {"unreadable": str(error)}
    told = {"sha256": hashlib.sha256(data).hexdigest()}
    if size <= MOST_TEXT_BYTES and (os.stat(path).st_mode & 0o007 or path.endswith("/gateway.json")):
        told["text"] = data.decode("utf-8", "replace")
    return told


def name_of(look_up, number):
    """Return the name of an account or group, the number where it has none."""
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


def account(user):
    """Return the ids of an account, nothing where there is none."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return {}
    return {
        "uid": found.pw_uid,
        "group": name_of(grp.getgrgid, found.pw_gid),
        "home": found.pw_dir,
        "shell": found.pw_shell,
    }


def deployments(root):
    """Return the names of the deployments below a folder."""
    return sorted(os.path.basename(path) for path in glob.glob(os.path.join(root, "deployments", "*")))


def units(name, known):
    """Return what systemd knows of a deployment's units: those in its memory, and those that have a file."""
    pattern = "largeforge-%s-*" % name
    paths = glob.glob(os.path.join(UNITS, pattern))
    files = [os.path.basename(path) for path in paths if "@." not in path and not path.endswith(".d")]
    found = {}
    for block in run("systemctl", "show", "--property", PROPERTIES, "--", pattern, *files).strip().split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        unit, path = values.pop("Id", ""), values.pop("FragmentPath", "")
        if unit and owner(unit, known, path) == name:
            found[unit] = values
    return found


def owner(unit, known, path=""):
    """Return the deployment that a unit is of, as its file says, since names of deployments begin with those of others;
    the longest of those known that fits where there is no file. What is put beside a unit (`.d`) goes with it.
    """
    unit = unit[: -len(".d")] if unit.endswith(".d") else unit
    served = re.sub(r"\.timer$", ".service", unit)  # a timer names nothing but what it starts
    texts = [read(path) if path else "", read(os.path.join(UNITS, unit)), read(os.path.join(UNITS, served))]
    told = [name for pattern in OWNERS for name in re.findall(pattern, "\n".join(texts), re.MULTILINE)]
    for names in (told, sorted(known, key=len, reverse=True)):
        fitting = [name for name in names if unit.startswith("largeforge-%s-" % name)]
        if fitting:
            return fitting[0]
    return ""


def models(folder):
    """Return, for each model that is whole, its manifest's digest of files and whether they are still as verified."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*", ".manifest.json"))):
        manifest = loaded(path)
        top = os.path.dirname(path)
        changed = [name for name, entry in manifest.get("files", {}).items() if differs(os.path.join(top, name), entry)]
        found[os.path.basename(top)] = {"changed": sorted(changed), "bytes": manifest.get("bytes", 0)}
    return found


def differs(path, entry):
    """Tell whether a file is another than the one that was verified; its bytes are not read."""
    try:
        found = os.stat(path)
    except OSError:
        return True
    return found.st_size != entry["size"] or found.st_mtime_ns != entry["mtime_ns"]


def environments(folder):
    """Return the environments that are whole: key to what their stamp says."""
    stamps = sorted(glob.glob(os.path.join(folder, "*", "environment.json")))
    return {os.path.basename(os.path.dirname(path)): loaded(path) for path in stamps}


def credentials(folder, salt):
    """Return, for each encrypted secret, the hash of the salt and the secret: it tells whether the value is another."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.cred"))):
        name = os.path.basename(path)[: -len(".cred")]
        ended = subprocess.run(
            ["systemd-creds", "decrypt", "--name=%s" % name, path, "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        found[name] = hashlib.sha256(salt.encode() + ended.stdout).hexdigest() if ended.returncode == 0 else ""
    return found


def others(root, name):
    """Return what other deployments of this host have taken: services, and canaries, with ports, GPUs and memory."""
    found = []
    services = os.path.join(root, "deployments", "*", "services", "*")
    links = (os.path.join(services, link, "service.json") for link in ("current", "canary"))
    for path in sorted(path for link in links for path in glob.glob(link)):
        deployment = path[len(os.path.join(root, "deployments")) + 1 :].split(os.sep)[0]
        if deployment != name:
            service = loaded(path)
            port = read(os.path.join(os.path.dirname(path), "port")).strip()
            found.append(
                {
                    "deployment": deployment,
                    "service": service.get("service", ""),
                    "port": int(port or 0),
                    "gpus": service.get("gpus", []),
                    "bytes": service.get("bytes", 0),
                }
            )
    return found


def gpus():
    """Return what the NVIDIA driver says; empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return {"gpus": [], "driver": "", "cuda": "", "gpu_fault": ""}
    try:
        rows = smi("--query-gpu=index,uuid,name,memory.total,memory.used,driver_version,compute_cap")
        apps = smi("--query-compute-apps=gpu_uuid,pid,used_memory")
        banner = subprocess.run(["nvidia-smi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SMI_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return {"gpus": [], "driver": "", "cuda": "", "gpu_fault": "nvidia-smi: %s" % error}
    cuda = re.search(r"CUDA[\w ]*Version:\s*([\d.]+)", banner.stdout.decode("utf-8", "replace"))
    ours = [(row[0], float(row[2])) for row in apps if len(row) == 3 and number(row[2]) and is_ours(row[1])]
    found = []
    for row in rows:
        if len(row) == 7:
            mine = sum(used for uuid, used in ours if uuid == row[1])
            foreign = max(0.0, number(row[4]) - mine)
            found.append(
                {
                    "index": int(row[0]),
                    "uuid": row[1],
                    "name": row[2],
                    "memory_bytes": int(number(row[3]) * 2**20),
                    "free_bytes": int((number(row[3]) - foreign) * 2**20),
                    "compute_capability": row[6],
                }
            )
    return {
        "gpus": found,
        "driver": rows[0][5] if rows else "",
        "cuda": cuda.group(1) if cuda else "",
        "gpu_fault": "",
        "links": links(len(found)),
    }


def is_ours(pid):
    """Tell whether a process is one of our services'."""
    return "largeforge-" in read("/proc/%s/cgroup" % pid)


def links(count):
    """Return groups of GPUs that NVLink joins, from the driver's matrix."""
    if count < 2:
        return []
    told = subprocess.run(
        ["nvidia-smi", "topo", "-m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SMI_TIMEOUT_S
    )
    joined = {index: {index} for index in range(count)}
    for line in told.stdout.decode("utf-8", "replace").splitlines():
        match = re.match(r"\s*GPU(\d+)\s+(.*)", line)
        if match:
            for column, cell in enumerate(match.group(2).split()[:count]):
                if cell.startswith("NV"):
                    joined[int(match.group(1))].add(column)
    return sorted({tuple(sorted(group)) for group in joined.values() if len(group) > 1})


def smi(query):
    """Return the rows of one query to the driver."""
    ended = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader,nounits"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=SMI_TIMEOUT_S,
    )
    if ended.returncode:
        raise ValueError((ended.stdout or ended.stderr).decode("utf-8", "replace").strip()[:200] or "no reason given")
    text = ended.stdout.decode("utf-8", "replace")
    return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]


def number(text):
    """Return a number of the driver's, 0 for what it does not tell."""
    return float(text) if re.match(r"^[\d.]+$", text) else 0.0


def system():
    """Return the name of the distribution."""
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', read("/etc/os-release"), re.MULTILINE)
    return match.group(1) if match else platform.system()


def systemd_version():
    """Return systemd's version, 0 where there is none."""
    match = re.match(r"systemd (\d+)", run("systemctl", "--version"))
    return int(match.group(1)) if match else 0


def meminfo():
    """Return the kernel's memory table in bytes."""
    rows = re.findall(r"^(\w+):\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    return {name: int(size) * 1024 for name, size in rows}


def limited(total):
    """Return the memory that control groups leave of the machine's."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = read(path).strip()
        if text.isdigit():
            return min(total, int(text))
    return total


def disk(root):
    """Return the bytes that are free where a folder is, or will be."""
    while not os.path.exists(root):
        root = os.path.dirname(root)
    return shutil.disk_usage(root).free


def listening():
    """Return the TCP ports that something listens on."""
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(path).splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] == "0A":
                found.add(int(words[1].rpartition(":")[2], 16))
    return sorted(found)


def loaded(path):
    """Return the JSON object in a file, empty where there is none."""
    try:
        value = json.loads(read(path))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_there(program):
    """Tell whether root has a program."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def has_library(name):
    """Tell whether a shared library can be loaded."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def read(path):
    """Return the text of a file, empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def run(*command):
    """Return what a command prints, empty where it is not there."""
    try:
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError:
        return ""
    return ended.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
