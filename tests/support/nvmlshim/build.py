"""Builds the stand-in library, with stubs for every name that the binding may ask for."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

SOURCES = Path(__file__).parent
SONAME = "libnvidia-ml.so.1"
FLAGS = (
    *("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"),
    *("-fPIC", "-fvisibility=hidden", "-shared", f"-Wl,-soname,{SONAME}"),
)


def build(folder: Path) -> Path:
    """Compile the library into `folder` and return its path; fails when gcc does."""
    stubs = folder / "stubs.c"
    stubs.write_text(stubs_for(wanted_names()))
    library = folder / SONAME
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    command = ["gcc", *FLAGS, "-o", str(library), *sources, str(stubs), "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"gcc could not build the stand-in:\n{done.stderr}"
    return library


def wanted_names() -> list[str]:
    """Return the names of all C functions that the installed binding may call."""
    spec = find_spec("pynvml")
    assert spec and spec.origin, "nvidia-ml-py is not installed"
    text = Path(spec.origin).read_text()
    return sorted(set(re.findall(r'_nvmlGetFunctionPointer\("(nvml\w+)"\)', text)))


def stubs_for(names: list[str]) -> str:
    """Return C that answers NOT_SUPPORTED (3) for each name; weak, so that a real one wins."""
    mark = '__attribute__((weak, visibility("default")))'
    return "".join(f"{mark} int {name}(void); int {name}(void) {{ return 3; }}\n" for name in names)
