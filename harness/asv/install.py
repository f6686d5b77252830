"""What asv's environments are made of: the versions in uv.lock, once and not for each environment anew.

    python install.py ENVIRONMENT CHECKOUT

Where the checkout's own environment has what the lock file names, for the same Python, an environment of asv's finds
the packages there by a .pth file: megabytes and a second, where a copy takes gigabytes. Elsewhere they are installed.
PyPI's torch for Linux links CUDA's libraries, 3 GB that a benchmark on the CPU never calls and that its import does not
do without: so the index of torch's CPU builds ($BILEVELBENCH_TORCH_INDEX, by default PyTorch's own) is asked first;
where it cannot be reached, or the machine has a GPU, the environment gets what the lock file names.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

INDEX = "https://download.pytorch.org/whl/cpu"
CUDA = ("nvidia-", "cuda-", "triton")  # how the names of packages begin that torch needs for CUDA alone
SYNC = ["sync", "--quiet", "--inexact", "--frozen", "--no-dev", "--no-install-project"]
LINK = "packages_of_the_checkout.pth"
ASK = "import sys, sysconfig; print(*sys.version_info[:2]); print(sysconfig.get_path('purelib'))"


def install(environment: Path, checkout: Path) -> str:
    """Have an environment find what the lock file of a checkout names, without the project; says where it is from."""
    own = checkout / os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv")
    return linked(environment, own) if agrees(environment, own, checkout) else installed(environment, checkout)


def agrees(environment: Path, own: Path, checkout: Path) -> bool:
    """Whether the checkout's own environment has all that the lock file names, for the same Python."""
    if not (own / "pyvenv.cfg").is_file() or _asked(own)[0] != _asked(environment)[0]:
        return False
    check = [sys.executable, "-m", "uv", *SYNC, "--check", "--project", str(checkout)]
    env = os.environ | {"UV_PROJECT_ENVIRONMENT": str(own.absolute())}
    return subprocess.run(check, env=env, capture_output=True).returncode == 0


def linked(environment: Path, own: Path) -> str:
    """Have an environment look for packages in another one, after its own."""
    packages = _asked(own)[1]
    (Path(_asked(environment)[1]) / LINK).write_text(packages + "\n", encoding="utf-8")
    return f"packages as in uv.lock, in {packages}"


def _asked(environment: Path) -> list[str]:
    """The Python of an environment, such as '3 11', and the folder of its packages."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def installed(environment: Path, checkout: Path) -> str:
    """Install what the lock file names; says which torch it is."""
    lock = tomllib.loads((checkout / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions = {package["name"]: package.get("version", "") for package in lock}
    env = os.environ | {"VIRTUAL_ENV": str(environment)}
    uv = [sys.executable, "-m", "uv"]
    sync = [*uv, *SYNC, "--active", "--project", str(checkout), *(["--extra", "jax"] if "jax" in versions else [])]
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
