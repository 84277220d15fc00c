"""What the set-up needs of this machine, found out before anything is installed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
"""vLLM 0.32 declares Python >=3.11,<3.15."""
NEEDED_GB = {"cpu": 8.0, "cuda": 25.0}
"""Free disk that a new environment needs while it is installed; the CPU one ends at about 4.5 GB."""
OLDEST_DRIVER = 580
"""First NVIDIA driver for CUDA 13, which the pinned torch is built with."""


@dataclass(frozen=True)
class Compiler:
    """A compiler that was asked to build a program, and what came of it."""

    command: str = ""
    version: str = ""
    error: str = ""


def python_problem(version: tuple[int, int] = sys.version_info[:2]) -> str:
    """Return what is wrong with this Python, or an empty string."""
    if not OLDEST <= version <= NEWEST:
        wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        hint = "Choose another one with LARGEFORGE_PYTHON=python3.12."
        return f"Python {version[0]}.{version[1]}: vLLM has wheels for {wanted}. {hint}"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = f"python{version[0]}.{version[1]}-venv"
        return f"{sys.executable} cannot create virtual environments; on Debian and Ubuntu: apt install {package}"
    return ""


def platform_problem(system: str = platform.system(), machine: str = platform.machine()) -> str:
    """Return why the pinned wheels do not fit this machine, or an empty string."""
    if system == "Linux" and machine in ("x86_64", "aarch64"):
        return ""
    return f"{system} on {machine}: vLLM has wheels for Linux on x86_64 and aarch64 only."


def find_compiler(candidates: tuple[str, ...], suffix: str) -> Compiler:
    """Return the first of the compilers on PATH that builds a program with the system's headers."""
    failed = Compiler()
    for command in candidates:
        if not command or shutil.which(command.split()[0]) is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / f"try{suffix}"
            source.write_text("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n")
            argv = [*command.split(), str(source), "-o", str(source.with_suffix(""))]
            built = subprocess.run(argv, capture_output=True, text=True)
        if built.returncode == 0:
            version = subprocess.run([*command.split(), "-dumpversion"], capture_output=True, text=True).stdout
            return Compiler(command, version.strip() or "of unknown version")
        failed = failed if failed.error else Compiler(command, error=built.stderr.strip()[:400])
    return failed


def c_compiler() -> Compiler:
    """Return the C compiler, as Triton would look for it."""
    return find_compiler((os.environ.get("CC", ""), "cc", "gcc", "clang"), ".c")


def cpp_compiler() -> Compiler:
    """Return the C++ compiler, as torch's inductor would look for it."""
    return find_compiler((os.environ.get("CXX", ""), "c++", "g++", "clang++"), ".cpp")


def has_python_headers() -> bool:
    """Tell whether C extensions can be compiled for this Python; Triton does so on a GPU."""
    return (Path(sysconfig.get_path("include")) / "Python.h").is_file()


def find_gpus() -> list[str]:
    """Return the NVIDIA GPUs that the driver lists, each as `name, driver version`."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip()] if found.returncode == 0 else []


def driver_problem(gpus: list[str]) -> str:
    """Return why the driver of the first GPU cannot run CUDA 13, or an empty string."""
    version = gpus[0].rpartition(",")[2].strip() if gpus else ""
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) >= OLDEST_DRIVER:
        return ""
    return f"the NVIDIA driver {version} is too old for CUDA 13: update to {OLDEST_DRIVER}, or use --device cpu."


def free_gb(folder: Path) -> float:
    """Return the free disk space for a folder that need not exist yet, in GB."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


def size_gb(folder: Path) -> float:
    """Return the size of all files below a folder, in GB."""
    total = 0
    for place, _, files in os.walk(folder):
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in files)  # noqa: PTH118 - 100 000 files
    return total / 1e9
