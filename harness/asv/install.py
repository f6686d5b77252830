"""What asv's environments are made of: the versions in uv.lock, torch without CUDA where an index offers it.

    python install.py ENVIRONMENT CHECKOUT

PyPI's torch for Linux links CUDA's libraries: 3 GB that a benchmark on the CPU never calls. The index of torch's CPU
builds ($BILEVELBENCH_TORCH_INDEX, by default PyTorch's own) is asked first; where it cannot be reached, or the machine
has a GPU, the environment gets what the lock file names.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

INDEX = "https://download.pytorch.org/whl/cpu"
CUDA = ("nvidia-", "cuda-", "triton")  # how the names of packages begin that torch needs for CUDA alone


def install(environment: Path, checkout: Path) -> str:
    """Install what the lock file of a checkout names, without the project; says which torch it is."""
    lock = tomllib.loads((checkout / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions = {package["name"]: package.get("version", "") for package in lock}
    env = os.environ | {"VIRTUAL_ENV": str(environment)}
    uv = [sys.executable, "-m", "uv"]
    sync = [*uv, "sync", "--quiet", "--active", "--inexact", "--frozen", "--no-dev", "--no-install-project"]
    sync += ["--project", str(checkout), *(["--extra", "jax"] if "jax" in versions else [])]
    index = os.environ.get("BILEVELBENCH_TORCH_INDEX", INDEX)
    if not shutil.which("nvidia-smi"):
        small = [*uv, "pip", "install", "--quiet", "--no-deps", "--index-url", index, f"torch=={versions['torch']}"]
        if subprocess.run(small, env=env | {"UV_HTTP_TIMEOUT": "20"}, capture_output=True).returncode == 0:
            left_out = [name for name in versions if name == "torch" or name.startswith(CUDA)]
            flags = [word for name in left_out for word in ("--no-install-package", name)]
            subprocess.run([*sync, *flags], env=env, check=True)
            return f"torch {versions['torch']} without CUDA, from {index}"
    subprocess.run(sync, env=env, check=True)
    return f"torch {versions['torch']} as in uv.lock; {index} was not asked or has none"


if __name__ == "__main__":
    print(install(Path(sys.argv[1]), Path(sys.argv[2])))
