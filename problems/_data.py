"""Data files: looked for in $BILEVELBENCH_DATA, then in the user cache, then downloaded there with a checksum."""

import functools
import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import platformdirs
import pooch

from bilevelbench import Unsupported

# MNIST (LeCun, Cortes; CC BY-SA 3.0): file -> md5
MNIST = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST_HOSTS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


@functools.lru_cache(maxsize=1)
def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images (60000, 784) and labels, then the 10000 test ones, as uint8."""
    images, labels, test_images, test_labels = (
        read_idx(find("MNIST/raw", name, md5, MNIST_HOSTS)) for name, md5 in MNIST.items()
    )
    return images.reshape(len(images), -1), labels, test_images.reshape(len(test_images), -1), test_labels


def find(folder: str, name: str, md5: str, hosts: tuple[str, ...]) -> Path:
    """The path of a data file with the right checksum; ``Unsupported`` says in one sentence why there is none."""
    places = [Path(platformdirs.user_cache_dir("bilevelbench")) / folder]
    if own := os.environ.get("BILEVELBENCH_DATA"):
        places.insert(0, Path(own) / folder)
    for place in places:
        path = place / name
        if path.is_file():
            found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            if found == md5:
                return path
            raise Unsupported(f"{path} is corrupt (md5 {found}, expected {md5}); remove it")
    pooch.get_logger().setLevel("WARNING")
    reasons = []
    for host in hosts:
        try:
            return Path(pooch.retrieve(host + name, f"md5:{md5}", fname=name, path=places[-1], progressbar=False))
        except Exception as error:  # whatever a download can meet
            reasons.append(type(error).__name__)
    raise Unsupported(
        f"{folder}/{name} is neither in $BILEVELBENCH_DATA nor in the user cache, and downloading failed "
        f"({', '.join(reasons)}); set BILEVELBENCH_DATA to a folder that has it"
    )


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of a gzipped IDX file; ``Unsupported`` where the file is not one or is cut short."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise Unsupported(f"{path} is no whole gzip file ({error}); remove it") from None
    kind, dimensions = (content[2], content[3]) if len(content) >= 4 and content[:2] == b"\0\0" else (0, 0)
    start = 4 + 4 * dimensions
    if kind != 8 or len(content) < start:
        raise Unsupported(f"{path} is no IDX file of bytes; remove it")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != np.prod(shape):
        raise Unsupported(f"{path} has {len(content) - start} bytes where its header says {np.prod(shape)}; remove it")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
