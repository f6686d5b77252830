"""Points that are kept beside a record."""

from pathlib import Path

import numpy as np
import pytest

from bilevelbench.store import points
from bilevelbench.store.files import Unreadable


def test_points_come_back_with_what_was_told(tmp_path):
    path = points.beside(tmp_path / "a-b.jsonl")
    assert path == tmp_path / "a-b.safetensors"
    assert points.beside(Path("x.jsonl.jsonl")).name == "x.jsonl.safetensors"
    whole = np.arange(6.0).reshape(2, 3)
    points.write(path, {"x": whole.T, "y": whole[0]}, {"digest": "d"})
    arrays, told = points.read(path)
    assert told == {"digest": "d"}
    assert arrays["x"].tolist() == whole.T.tolist()
    assert arrays["y"].tolist() == whole[0].tolist()
    assert points.names(path) == {"x", "y"}


def test_what_is_no_file_of_points_is_said(tmp_path):
    nothing, text, link = tmp_path / "nothing", tmp_path / "text", tmp_path / "link"
    text.write_text("x")
    link.symlink_to(text)
    for path, words in ((nothing, "is not there"), (text, "is no file of points"), (link, "is no plain file")):
        with pytest.raises(Unreadable, match=words):
            points.read(path)
    assert points.names(nothing) == points.names(text) == set()
