"""Data files: found, checked, read without executing anything; what is wrong with one is a sentence."""

import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.utils import Bunch

from bilevelbench import RequestError, Unsupported
from bilevelbench.cli import cli
from bilevelbench.data import cache, find
from bilevelbench.data.formats import Resized, read_idx, read_newsgroups, read_omniglot, read_svmlight
from bilevelbench.data.sources import File, Source

needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("BILEVELBENCH_DATA", "nowhere")) / "omniglot-py").is_dir(), reason="no $BILEVELBENCH_DATA"
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two empty folders in place of the data and of the user cache; no host can be reached."""
    monkeypatch.setenv("BILEVELBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    monkeypatch.setattr(find.pooch, "retrieve", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    return tmp_path


def refused(read, *arguments, **options):
    with pytest.raises(Unsupported) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def content_of(read, path, *arguments):
    """The digest that a reader finds, from its own complaint about another one."""
    return refused(read, path, *arguments, "0").partition("sha256 of their ")[2].split()[1].strip(",")


# -- IDX


def idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return path


def test_idx_files_are_read(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(read_idx(idx(tmp_path / "a.gz", array)), array)


def test_an_idx_file_that_was_packed_anew_is_known_by_what_is_in_it(tmp_path):
    array = np.arange(24).reshape(4, 6)
    path = idx(tmp_path / "a.gz", array)
    inside = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(inside, 1, mtime=7))
    content = hashlib.sha256(inside).hexdigest()
    np.testing.assert_array_equal(read_idx(path, content), array)
    idx(path, array + 1)
    assert re.search(
        rf"holds other data \(sha256 of what is in it \w{{64}}, not {content}\)", refused(read_idx, path, content)
    )


def test_debian_s_fashion_mnist_is_found(places):
    """Its package has the images packed anew, in a folder of its own."""
    folder = places / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for file in find.SOURCES["fashion"].files:
        path = idx(folder / file.name, np.zeros(3))
        assert find.local(file) == path
        assert "holds other data" in refused(file.read, path)


@pytest.mark.parametrize("damage", ["cut", "short", "other", "plain"])
def test_damaged_idx_files_are_one_sentence(tmp_path, damage):
    path = idx(tmp_path / "a.gz", np.arange(24).reshape(4, 6))
    content = path.read_bytes()
    whole = gzip.decompress(content)
    path.write_bytes(
        {
            "cut": content[:-9],
            "short": gzip.compress(whole[:-3]),
            "other": gzip.compress(b"\1\2\3\4" + whole),
            "plain": whole,
        }[damage]
    )
    assert str(path) in refused(read_idx, path)


# -- messages

MESSAGES = {
    "train": {"alt.atheism/1": "no god\n\nat all", "sci.space/12": "the moon\xe9", "sci.space/7": "mars"},
    "test": {"alt.atheism/3": "none", "sci.space/99": ""},
}


def bunch(part):
    files = [f"/home/x/20news-bydate-{part}/{name}" for name in MESSAGES[part]]
    return Bunch(
        data=list(MESSAGES[part].values()), filenames=np.array(files), target=np.arange(len(files)), DESCR=None
    )


def pickled(path, thing, protocol=4):
    path.write_bytes(zlib.compress(pickle.dumps(thing, protocol)))
    return path


@pytest.fixture
def pkz(tmp_path):
    return pickled(tmp_path / "20news-bydate_py3.pkz", {part: bunch(part) for part in MESSAGES})


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "20news-bydate.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for part, messages in MESSAGES.items():
            for name, text in messages.items():
                info = tarfile.TarInfo(f"20news-bydate-{part}/{name}")
                info.size = len(text.encode("latin1"))
                archive.addfile(info, io.BytesIO(text.encode("latin1")))
    return path


def test_messages_are_the_same_from_the_pickle_and_from_the_tar(pkz, tar):
    digest = content_of(read_newsgroups, pkz, (3, 2))
    assert digest == content_of(read_newsgroups, tar, (3, 2))
    one, other = (read_newsgroups(path, (3, 2), digest) for path in (pkz, tar))
    assert one.groups == other.groups == ["alt.atheism", "sci.space"]
    assert one.train == other.train == ["no god\n\nat all", "the moon\xe9", "mars"]
    assert one.train_groups.tolist() == other.train_groups.tolist() == [0, 1, 1]
    assert (one.test, one.test_groups.tolist()) == (["none", ""], [0, 1])


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_of_python_3_is_read(tmp_path, pkz, protocol):
    path = pickled(tmp_path / "again.pkz", {part: bunch(part) for part in MESSAGES}, protocol)
    assert content_of(read_newsgroups, path, (3, 2)) == content_of(read_newsgroups, pkz, (3, 2))


class Malicious:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", ["touch", "eval", "getattr", "path"])
def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(tmp_path, call):
    mark = tmp_path / "mark"
    bomb = {
        "touch": Malicious(os.system, f"touch {mark}"),
        "eval": Malicious(eval, f"open({str(mark)!r}, 'w')"),
        "getattr": Malicious(getattr, "a", "upper"),
        "path": Malicious(Path.touch, mark),
    }[call]
    part = bunch("train")
    part["data"][1] = bomb
    words = refused(read_newsgroups, pickled(tmp_path / "a.pkz", {"train": part, "test": bunch("test")}), (3, 2), "0")
    assert "it asks for" in words
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["cut", "not zlib", "not a pickle", "another thing", "fewer", "changed", "bomb"])
def test_damaged_messages_are_one_sentence(tmp_path, pkz, damage, monkeypatch):
    digest = content_of(read_newsgroups, pkz, (3, 2))
    whole = {part: bunch(part) for part in MESSAGES}
    if damage == "cut":
        pkz.write_bytes(pkz.read_bytes()[:-7])
    elif damage == "not zlib":
        pkz.write_bytes(b"hello")
    elif damage == "not a pickle":
        pkz.write_bytes(zlib.compress(b"hello"))
    elif damage == "another thing":
        pickled(pkz, [1, 2])
    elif damage == "bomb":
        monkeypatch.setattr("bilevelbench.data.formats.LIMIT", 100)
    else:
        part = whole["train"]
        part["data"][0] = "other"
        if damage == "fewer":
            part["filenames"], part["data"] = part["filenames"][1:], part["data"][1:]
        pickled(pkz, whole)
    assert str(pkz) in refused(read_newsgroups, pkz, (3, 2), digest)


def test_a_cut_tar_is_one_sentence(tar):
    tar.write_bytes(gzip.compress(gzip.decompress(tar.read_bytes())[:600]))
    assert str(tar) in refused(read_newsgroups, tar, (3, 2), "0")


# -- drawings


def drawings(path, characters=3, each=2, size=6, kind="PNG", mode="1"):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for c in range(characters):
            for d in range(each):
                buffer = io.BytesIO()
                Image.fromarray(rng.random((size, size)) > 0.3).convert(mode).save(buffer, kind)
                archive.writestr(f"letters/A/character{c:02}/{c:04}_{d:02}.png", buffer.getvalue())
    return path


def test_drawings_are_read_and_other_builds_of_the_archive_are_the_same(tmp_path):
    one, other = drawings(tmp_path / "a.zip"), drawings(tmp_path / "b.zip", mode="L")
    assert one.read_bytes() != other.read_bytes()
    digest = _pixels(one)
    assert digest == _pixels(other)
    ink = read_omniglot(one, "letters", 3, digest, drawings=2, size=6)
    assert ink.shape == (3, 2, 6, 6)
    assert ink.mean() == pytest.approx(0.3, abs=0.1)  # ink is what is black


def _pixels(path):
    words = refused(read_omniglot, path, "letters", 3, "0", drawings=2, size=6)
    return words.partition("sha256 of their pixels ")[2][:64]


@pytest.mark.parametrize("damage", ["cut", "no zip", "fewer", "larger", "not png", "elsewhere", "changed"])
def test_damaged_drawings_are_one_sentence(tmp_path, damage):
    path = drawings(tmp_path / "a.zip")
    digest, content = _pixels(path), path.read_bytes()
    options = {
        "fewer": {"each": 1}, "larger": {"size": 7}, "not png": {"kind": "BMP"}, "changed": {"characters": 4},
    }.get(damage)  # fmt: skip
    if options:
        drawings(path, **options)
    elif damage == "elsewhere":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("letters/../../character/x.png", b"")
    else:
        path.write_bytes({"cut": content[:-40], "no zip": b"hello"}[damage])
    assert str(path) in refused(read_omniglot, path, "letters", 3, digest, drawings=2, size=6)


@pytest.mark.parametrize(("size", "side"), [(6, 3), (105, 14), (105, 28), (5, 5)])
def test_drawings_are_resized_by_area(size, side):
    """Against an average over the common refinement of both grids."""
    ink = np.random.default_rng(1).random((2, size, size)) > 0.5
    fine = np.kron(ink, np.ones((side, side)))
    mean = fine.reshape(2, side, size, side, size).mean((2, 4))
    assert np.abs(Resized(side)(ink) - 255 * mean).max() <= 0.5 + 1e-9


# -- svmlight


def test_svmlight_rows_are_read(tmp_path):
    path = tmp_path / "a"
    path.write_text("-1 1:0.5 3:2\n+1 \n+1 2:-1e-3\n")
    inputs, labels = read_svmlight(path, 3, 4)
    np.testing.assert_array_equal(inputs.toarray(), [[0.5, 0, 2, 0], [0, 0, 0, 0], [0, -1e-3, 0, 0]])
    assert labels.tolist() == [-1, 1, 1]


@pytest.mark.parametrize("text", ["-1 1:0.5\n", "-1 1:x\n1 1:1\n", "-1 5:1\n1 1:1\n", "\x00\x01\x02", ""])
def test_damaged_svmlight_is_one_sentence(tmp_path, text):
    path = tmp_path / "a"
    path.write_text(text)
    assert str(path) in refused(read_svmlight, path, 2, 4)


# -- finding


def file_of(content, name="f", urls=("https://example.org/f",), by_content=False):
    return File(
        (f"folder/{name}", "folder/instead"), len(content), f"sha256:{hashlib.sha256(content).hexdigest()}", urls,
        lambda path: None, by_content,
    )  # fmt: skip


def put(place, name, content):
    (place / "folder").mkdir(parents=True, exist_ok=True)
    (place / "folder" / name).write_bytes(content)
    return place / "folder" / name


def test_files_are_looked_for_in_the_given_folder_and_then_in_the_cache(places):
    file = file_of(b"abc")
    assert find.local(file) is None
    cached = put(places / "cache", "f", b"abc")
    assert find.find(file) == cached
    own = put(places / "data", "f", b"abc")
    assert find.find(file) == own
    own.write_bytes(b"abd")
    assert "corrupt" in refused(find.find, file)
    assert find.local(file_of(b"abc", by_content=True)) == own  # the reader judges
    own.unlink()
    cached.unlink()
    assert "BILEVELBENCH_DATA" in refused(find.find, file)
    instead = put(places / "cache", "instead", b"abc")
    assert find.find(file_of(b"xyz", by_content=True)) == instead


def test_downloads_are_held_to_the_checksum_and_further_hosts_are_tried(tmp_path, monkeypatch):
    monkeypatch.delenv("BILEVELBENCH_DATA", raising=False)
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    asked = []

    class Host:
        def __init__(self, progressbar, timeout):
            self.bar = progressbar

        def __call__(self, url, output, pooch):
            asked.append(url)
            self.bar.total = 3
            self.bar.update(3)
            Path(output).write_bytes(b"abc" if "good" in url else b"bad")

    monkeypatch.setattr(find.pooch, "HTTPDownloader", Host)
    file = file_of(b"abc", urls=("https://one.example/f", "https://good.example/f"))
    path = find.find(file)
    assert path == tmp_path / "cache/folder/f"
    assert path.read_bytes() == b"abc"
    assert len(asked) == 2
    assert find.find(file) == path
    assert len(asked) == 2
    path.unlink()
    assert "another checksum" in refused(find.find, file_of(b"abc", urls=("https://one.example/f",)))
    assert not list((tmp_path / "cache").rglob("f"))


def test_names_of_data_are_suggested():
    with pytest.raises(RequestError, match="mnist"):
        find.chosen("minst")
    assert [file.name for file in find.chosen("a9a.t")] == ["a9a.t"]
    assert len(find.chosen("omniglot")) == 2


# -- the command


def test_verify_says_what_is_missing_and_what_is_bad(places, monkeypatch):
    files = (file_of(b"abc"), file_of(b"abd", "other"))
    monkeypatch.setattr(find, "SOURCES", {"mine": Source("my data", "none", files)})
    put(places / "data", "f", b"abc")
    put(places / "data", "other", b"wrong")
    done = CliRunner().invoke(cli, ["data", "verify"])
    assert done.exit_code == 1
    good, bad = done.output.splitlines()
    assert good.endswith("is good")
    assert "corrupt" in bad
    (places / "data/folder/other").write_bytes(b"abd")
    assert CliRunner().invoke(cli, ["data", "verify"]).exit_code == 0
    (places / "data/folder/f").unlink()
    done = CliRunner().invoke(cli, ["data", "verify"])
    assert done.exit_code == 1
    assert "data fetch mine" in done.output


def test_list_and_fetch(places):
    done = CliRunner().invoke(cli, ["data", "list"])
    assert done.exit_code == 0
    for words in ("mnist", "CC BY-SA 3.0", "letter.scale", "not here"):
        assert words in done.output
    done = CliRunner().invoke(cli, ["data", "fetch", "a9a"])
    assert done.exit_code == 1
    assert "downloading failed" in done.output
    done = CliRunner().invoke(cli, ["data", "fetch", "minst"])
    assert isinstance(done.exception, RequestError)  # main() makes it one sentence and exit code 2


@needs_data
@pytest.mark.data
def test_the_files_at_hand_are_the_expected_ones():
    """The small ones to the end; the large ones by checksum only (`bilevelbench data verify` reads them all)."""
    for name in set(find.SOURCES) - {"fashion"}:  # of which no copy came with the others
        for file in find.SOURCES[name].files:
            assert find.local(file) is not None
    inputs, labels = find.libsvm("breast-cancer_scale")
    assert inputs.shape == (683, 10)
    assert set(labels) == {2.0, 4.0}
    assert find.libsvm("a9a.t")[0].shape == (16281, 123)  # the file itself ends at feature 122


# -- the cache of what is made


def test_arrays_are_made_once_and_again_when_their_file_is_bad(places):
    made = []

    def make():
        made.append(1)
        return {"a": np.arange(3), "b": np.ones((2, 2))}

    for _ in range(2):
        kept = cache.arrays("x", {"k": 1}, make)
        np.testing.assert_array_equal(kept["a"], [0, 1, 2])
    assert len(made) == 1
    (path,) = (places / "cache").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:-20])
    np.testing.assert_array_equal(cache.arrays("x", {"k": 1}, make)["b"], np.ones((2, 2)))
    assert len(made) == 2
    cache.arrays("x", {"k": 2}, make)
    assert len(made) == 3


def test_lines_are_kept_with_their_provenance(places):
    lines = {"noisy": {"phi": 0.1234567890123456789}}
    assert cache.lines("p", {"seed": 0}, lambda: (lines, {"method": "L-BFGS"})) == lines
    assert cache.lines("p", {"seed": 0}, lambda: 1 / 0) == lines
    (path,) = (places / "cache").rglob("*.json")
    for words in ('"method": "L-BFGS"', '"seed": 0', '"torch"'):
        assert words in path.read_text()
    path.write_text("{}")
    assert cache.lines("p", {"seed": 0}, lambda: (lines, {})) == lines


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "file")
    assert cache.arrays("x", 1, lambda: {"a": np.ones(1)})["a"] == 1
