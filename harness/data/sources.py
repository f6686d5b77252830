"""Where data come from: the files of each source, their checksums, hosts, readers and licences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .formats import read_idx, read_newsgroups, read_omniglot, read_svmlight


@dataclass(frozen=True)
class File:
    """One file of a source.

    paths: where it lies in the data folder; the first is the name under which it is downloaded, others may stand in
    for it. size and digest: bytes and ``kind:hex`` of the first; the size
    is None where no original was at hand. read: the reader of its format, which raises
    ``Unsupported``. by_content: archives that were packed anew are taken, since ``read`` checks what is in them.
    """

    paths: tuple[str, ...]
    size: int | None
    digest: str
    urls: tuple[str, ...]
    read: Callable[[Path], object]
    by_content: bool = False

    @property
    def name(self) -> str:
        """The file's name."""
        return self.paths[0].rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """Files that belong together, and the licence under which their owner gives them."""

    title: str
    licence: str
    files: tuple[File, ...]


IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx(folders: tuple[str, ...], hosts: tuple[str, ...], *facts: tuple[int, str, str]) -> tuple[File, ...]:
    """The four files of MNIST, or of what has its shape. ``facts``: size and md5 of each, sha256 of what is in it."""
    return tuple(
        File(
            tuple(f"{folder}/{name}" for folder in folders), size, f"md5:{md5}", tuple(host + name for host in hosts),
            functools.partial(read_idx, content=content), by_content=True,
        )
        for name, (size, md5, content) in zip(IDX, facts, strict=True)
    )  # fmt: skip


def _omniglot(name: str, md5: str, characters: int, pixels: str) -> File:
    host = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
    read = functools.partial(read_omniglot, folder=name.removesuffix(".zip"), characters=characters, pixels=pixels)
    return File((f"omniglot-py/{name}",), None, f"md5:{md5}", (host + name,), read, by_content=True)


def _libsvm(name: str, size: int, sha256: str, rows: int, features: int, kind: str = "binary") -> File:
    host = f"https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/{kind}/"
    read = functools.partial(read_svmlight, rows=rows, features=features)
    return File((f"libsvm/{name}",), size, f"sha256:{sha256}", (host + name,), read)


# The md5 of MNIST, Fashion-MNIST and Omniglot are torchvision's, the sha256 of 20 Newsgroups is scikit-learn's. The
# sha256 of LIBSVM's files, like all sizes, counts and digests of contents, are those of the files that were at hand.
# Debian's package dataset-fashion-mnist has Fashion-MNIST packed anew, in /usr/share/datasets/fashion-mnist.
SOURCES = {
    "mnist": Source("MNIST: 60000 and 10000 images of digits", "CC BY-SA 3.0 (LeCun, Cortes)", _idx(
        ("MNIST/raw",),
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873",
         "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        (28881, "d53e105ee54ea40749a09fcbcd1e9432",
         "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        (1648877, "9fb629c4189551a2d022fa330f9573f3",
         "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        (4542, "ec29112dd5afa0611ce80d1b7f02629c",
         "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    )),
    "fashion": Source("Fashion-MNIST: 60000 and 10000 images of clothes", "MIT (Zalando)", _idx(
        ("FashionMNIST/raw", "fashion-mnist"),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
         "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        (29515, "25c81989df183df01b3e8a0aad5dffbe",
         "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        (4422102, "bef4ecab320f06d8554ea6380940ec79",
         "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        (5148, "bb300cfdad3c16e7a12a480ee83cd310",
         "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    )),
    "omniglot": Source("Omniglot: 1623 characters, 20 drawings of each", "MIT (Lake)", (
        _omniglot(
            "images_background.zip", "68d2efa1b9178cc56df9314c21c6e718", 964,
            "dfcc28b41758e7305321a1f7c56692e4ab67441f581bbc58aac99d8be7f15209",
        ),
        _omniglot(
            "images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811", 659,
            "1445ff97df5bf67dddc15b43f0dff2f1e64327b54dad479d185aa7d9b11dbb00",
        ),
    )),
    "newsgroups": Source("20 Newsgroups by date: 11314 and 7532 messages", "CC BY 4.0 (Lang, Rennie; UCI)", (
        File(
            ("20newsgroups/20news-bydate.tar.gz", "20newsgroups/20news-bydate_py3.pkz"), None,
            "sha256:8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610",
            ("https://ndownloader.figshare.com/files/5975967",),
            functools.partial(
                read_newsgroups, counts=(11314, 7532),
                content="3b65a435daaae14b23432bd1a210f5aaeca1e563a61d8a41be108bcdfd8ffaee",
            ),
            by_content=True,
        ),
    )),
    "libsvm": Source("LIBSVM's copies of UCI sets and of w8a", "CC BY 4.0 (UCI); w8a (Platt 1998): none stated", (
        _libsvm("a9a", 2329875, "f5d5ffd8d865ff41328e7ee043e4b020816914ff6843ff15b98905ddbedce906", 32561, 123),
        _libsvm("a9a.t", 1164628, "1f448a153f0320399a7e40836eb207655b0bde0f21fc941cc472193daa9f5de9", 16281, 123),
        _libsvm("w8a", 3478239, "b464b4f6ce6a5d9e181ffc793e19a04751036273722312398ef7673705014902", 49749, 300),
        _libsvm("australian", 115307, "25a5d45d53b5db7c402f1bf58aea5ed5f0387ad525ec7f0131585f1f63033b38", 690, 14),
        _libsvm(
            "breast-cancer_scale", 59985, "c266bc7254ae188d563151eae2731912c35dccf385892f0dc597f88d9698802a", 683, 10,
        ),
        _libsvm(
            "letter.scale", 2630395, "2cbe9eb2f601a96fe09e25a190e20c28a8e58e48a1f7e62d623586fcce84c792", 15000, 16,
            "multiclass",
        ),
    )),
}  # fmt: skip
