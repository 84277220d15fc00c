"""Run a piece of Python in a process that has given away what it does not need; a script, started by `code.py`.

Given away, for good, before the code runs:

* time: the processor seconds of a limit (the caller also ends it by the clock)
* memory: an address space of a limit; files of 16 MiB at most; no core dumps
* network: seccomp refuses every socket
* other processes: seccomp refuses new processes, signals, ptrace and reading another one's memory
* files: Landlock lets it read the system and Python, and write in its own folder only

Both work without root; seccomp on x86-64 and arm64, Landlock from Linux 5.13 on. What could not be given away is
printed in the first line. Not covered: the time that files of the system tell, what the processor leaks, faults of
the kernel, and code that searches this very process for how it reports.

    python -I _confined.py <seconds> <MiB> <folder> < JSON: {"code", "tests", "word"}

Prints `word` as the last line when the code and then the tests raised nothing.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys

_ALLOW, _REFUSE, _ABSENT, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
"""What seccomp does: go on; fail with EPERM, or with ENOSYS; end the process (linux/seccomp.h)."""
_THREAD, _X32 = 0x00010000, 0x40000000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    "x86_64": {
        "socket": 41, "socketpair": 53, "connect": 42, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
        "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        "pidfd_send_signal": 424, "pidfd_open": 434, "ptrace": 101, "process_vm_readv": 310,
        "process_vm_writev": 311, "io_uring_setup": 425, "setpriority": 141, "prlimit64": 302, "shmget": 29,
        "mq_open": 240,
    },
    "aarch64": {
        "socket": 198, "socketpair": 199, "connect": 203, "execve": 221, "execveat": 281, "kill": 129, "tkill": 130,
        "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "pidfd_send_signal": 424, "pidfd_open": 434,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "io_uring_setup": 425, "setpriority": 140,
        "prlimit64": 261, "shmget": 194, "mq_open": 180,
    },
}  # fmt: skip
_CLONE, _CLONE3 = {"x86_64": 56, "aarch64": 220}, 435
_LARGEST_FILE = 16 * 2**20
_READ, _EVERYTHING = 0b1101, {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
"""Landlock's rights: read and execute files and list folders; all that each version knows (linux/landlock.h)."""


def main(seconds: str, mebibytes: str, folder: str) -> None:
    """Give everything away, run the code and its tests, and say so when they raised nothing."""
    task = json.load(sys.stdin)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_AS, (int(mebibytes) * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    missing = []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: what both need
    if not _only_files_below(libc, folder):
        missing.append("files")
    if not _no_sockets_nor_processes(libc):
        missing.append("network and processes")
    out = os.dup(1)
    os.write(out, (json.dumps(missing) + "\n").encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    names = {"__name__": "__main__"}
    exec(compile(task["code"], "answer", "exec"), names)
    exec(compile(task["tests"], "tests", "exec"), names)
    os.write(out, (task["word"] + "\n").encode())


def _only_files_below(libc: ctypes.CDLL, folder: str) -> bool:
    """Let this process read the system and Python, and write below a folder; tell whether that holds."""
    version = libc.syscall(444, None, 0, 1)
    if version < 1:
        return False
    every = _EVERYTHING[min(version, 5)]
    attributes = ctypes.create_string_buffer(struct.pack("QQ", every, 3 if version >= 4 else 0))
    rules = libc.syscall(444, attributes, 16 if version >= 4 else 8, 0)
    if rules < 0:
        return False
    readable = ["/usr", "/lib", "/lib64", "/bin", "/etc/localtime", sys.base_prefix, sys.prefix]
    allowed = [*((path, _READ) for path in readable), ("/dev/null", 0b110), ("/dev/urandom", 0b100), (folder, every)]
    for path, rights in allowed:
        if not os.path.exists(path):  # noqa: PTH110
            continue
        rights &= every if os.path.isdir(path) else 0b10111  # noqa: PTH112
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(445, rules, 1, ctypes.create_string_buffer(struct.pack("=Qi", rights, place)), 0)
        os.close(place)
    return bool(libc.syscall(446, rules, 0) == 0)


def _no_sockets_nor_processes(libc: ctypes.CDLL) -> bool:
    """Let seccomp refuse sockets, processes and signals; tell whether that holds."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    refused = list(_REFUSED[machine].values())
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, _ARCHITECTURES[machine]), (0x06, 0, 0, _KILL), (0x20, 0, 0, 0)]
    if machine == "x86_64":  # the same calls have further numbers there
        program += [(0x35, 0, 1, _X32), (0x06, 0, 0, _KILL)]
    for number in refused:
        program += [(0x15, 0, 1, number), (0x06, 0, 0, _REFUSE)]
    program += [(0x15, 0, 1, _CLONE3), (0x06, 0, 0, _ABSENT)]  # C falls back to clone, whose flags can be seen
    program += [(0x15, 0, 3, _CLONE[machine]), (0x20, 0, 0, 16), (0x45, 1, 0, _THREAD), (0x06, 0, 0, _REFUSE)]
    program += [(0x06, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    pointer = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    return bool(libc.prctl(22, 2, pointer, 0, 0) == 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
