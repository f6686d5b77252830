#!/usr/bin/env bash
# Debian's package dataset-fashion-mnist 0.0~git20200523.55506a9-1 has the images and labels of Fashion-MNIST packed anew.
#
# The four files keep their names (`train-images-idx3-ubyte.gz`, ...) and hold the same bytes once unpacked, but none has
# the md5 by which torchvision 0.29.2, and with it most of what loads Fashion-MNIST, knows it: `download=True` fetches
# them again, and without a network raises. torchvision asks for a checksum of the packed files alone: the same files
# unpacked by hand are taken, whatever is in them. The files as published are in the package's source archive.
# Seen on Debian 12 (amd64), Python 3.11.7. Needs apt (of Debian 12), dpkg, curl, xz.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
version=0.0~git20200523.55506a9
apt-get download -q dataset-fashion-mnist=$version-1 > log 2>&1
dpkg -x dataset-fashion-mnist_*.deb debian
curl -sSf -O "http://deb.debian.org/debian/pool/main/d/dataset-fashion-mnist/dataset-fashion-mnist_$version.orig.tar.xz"
mkdir source && tar -xf dataset-fashion-mnist_*.orig.tar.xz -C source --strip-components 1
python3 -m venv venv
venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps torchvision==0.29.2
unzip -q -p torchvision-*.whl torchvision/datasets/mnist.py > mnist.py
cat > compare.py <<'EOF'
import gzip
import hashlib
import re
from pathlib import Path

_, _, fashion = Path("mnist.py").read_text().partition("\nclass FashionMNIST")
known = dict(re.findall(r'\("(\S+\.gz)", "(\w{32})"\)', fashion.partition("\nclass ")[0]))
for name, md5 in known.items():
    packed, source = Path("debian/usr/share/datasets/fashion-mnist", name), Path("source/data/fashion", name)
    is_known = [hashlib.md5(path.read_bytes()).hexdigest() == md5 for path in (packed, source)]
    same = gzip.decompress(packed.read_bytes()) == gzip.decompress(source.read_bytes())
    print(name, "known:", *is_known, "same inside:", same)
EOF
python3 compare.py | tee out
diff out - <<'EOF'
train-images-idx3-ubyte.gz known: False True same inside: True
train-labels-idx1-ubyte.gz known: False True same inside: True
t10k-images-idx3-ubyte.gz known: False True same inside: True
t10k-labels-idx1-ubyte.gz known: False True same inside: True
EOF
