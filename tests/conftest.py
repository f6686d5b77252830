"""One thread where the environment names no number, no deadlines (the machine may be busy, and no test here judges
seconds), and a cache of their own."""

import atexit
import os
import shutil
import tempfile

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

os.environ["BILEVELBENCH_CACHE"] = tempfile.mkdtemp(prefix="bilevelbench-")  # what earlier code made does not count
atexit.register(shutil.rmtree, os.environ["BILEVELBENCH_CACHE"], ignore_errors=True)

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
