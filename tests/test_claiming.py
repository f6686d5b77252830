"""Claims between two looks: what may happen in the meantime, and file systems that lack something."""

import errno
import os

import pytest

from bilevelbench.store import claims as module
from bilevelbench.store import files
from bilevelbench.store.claims import Claims, _publish, _publish_without_links, _set_aside
from tests.results_factory import key

STEM, NAME = key().stem, files.final_name(key(), "0" * 8)


@pytest.fixture
def pair(tmp_path):
    part, final = tmp_path / "a.part", tmp_path / "a.jsonl"
    part.write_text("mine")
    return part, final


def test_what_is_published_first_stays(pair):
    part, final = pair
    assert _publish(part, final)
    assert final.read_text() == "mine"
    assert _publish(part, final)  # the answer to a first try may have been lost
    part.unlink()
    part.write_text("late")
    assert not _publish(part, final)
    assert final.read_text() == "mine"
    assert not _publish(part.with_name("nothing"), final.with_name("b.jsonl"))


def test_a_link_in_the_place_of_a_final_file_is_none_of_ours(pair, tmp_path):
    part, final = pair
    final.symlink_to(part)
    assert not _publish(part, final)


@pytest.mark.parametrize(
    "code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV]
)
def test_file_systems_without_links(pair, monkeypatch, code):
    def refuses(*arguments, **named):
        raise OSError(code, "no links")

    monkeypatch.setattr(module.os, "link", refuses)
    part, final = pair
    assert _publish(part, final)
    assert (final.read_text(), part.exists()) == ("mine", False)
    part.write_text("late")
    assert not _publish(part, final)
    assert final.read_text() == "mine"


def test_other_errors_of_a_link_are_told(pair, monkeypatch):
    def refuses(*arguments, **named):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(module.os, "link", refuses)
    with pytest.raises(OSError, match="broken"):
        _publish(*pair)


def test_without_links_an_empty_file_is_one_that_was_begun(pair, tmp_path):
    part, final = pair
    final.touch()  # by a maker that was killed in between
    assert _publish_without_links(part, final)
    assert final.read_text() == "mine"
    part.write_text("other")
    final.unlink()
    final.symlink_to(tmp_path / "nowhere")
    assert not _publish_without_links(part, final)


def test_a_final_file_is_set_aside_while_it_is_the_one_that_was_seen(pair, tmp_path):
    aside, final = tmp_path / "a.old.jsonl", pair[1]
    assert _set_aside(final, aside, (1,))  # there is none
    final.write_text("old")
    mark = files.mark(final)
    assert _set_aside(final, aside, mark)
    assert (aside.read_text(), final.exists()) == ("old", False)
    aside.unlink()
    final.write_text("another")
    assert not _set_aside(final, aside, mark)
    assert final.read_text() == "another"


def test_a_claim_that_is_succeeded_while_it_is_made_is_given_up(tmp_path, monkeypatch):
    create = files.create

    def slow(path, flags=0):
        handle = create(path, flags)
        if path.name.startswith(".claim-"):
            (tmp_path / f".claim-{STEM}.1").write_text("f" * 16)
        return handle

    with Claims(tmp_path) as claims:
        monkeypatch.setattr(files, "create", slow)
        assert claims.take(STEM) is None
        assert not (tmp_path / f".claim-{STEM}.0").exists()
        assert claims._held == {}


def test_a_stranger_among_the_generations_is_looked_at_first(tmp_path, monkeypatch):
    """Its claim came between the look and the file."""
    create = files.create

    def slow(path, flags=0):
        if path.name.endswith(".1"):
            (tmp_path / f".claim-{STEM}.0").write_text("f" * 16)
        return create(path, flags)

    with Claims(tmp_path) as claims:
        (tmp_path / f".claim-{STEM}.0").write_text("e" * 16)
        monkeypatch.setattr(claims._heart, "gone", lambda token: True)
        monkeypatch.setattr(files, "create", slow)
        assert claims.take(STEM) is None
        assert not (tmp_path / f".claim-{STEM}.1").exists()


def test_whose_a_claim_is(tmp_path):
    with Claims(tmp_path) as claims:
        for text, token in (
            ("a" * 16, "a" * 16),
            ("A" * 16, ""),
            ("a" * 15, ""),
            ("", ""),
            ("é" * 8, ""),
            ("a" * 300, ""),
        ):
            (tmp_path / f".claim-{STEM}.0").write_text(text)
            assert claims._token(STEM, 0) == token
        assert claims._token(STEM, 1) == ""


def test_a_look_is_believed_for_a_second(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Claims(tmp_path, beat=1000.0) as claims:
        assert claims._look() == {}
        (tmp_path / f".claim-{STEM}.3").touch()
        (tmp_path / f".claim-{STEM}.11").touch()
        (tmp_path / f".claim-{STEM}.x").touch()
        (tmp_path / f"claim-{STEM}.4").touch()
        now[0] += 1.0
        assert claims._look() == {}
        assert claims._look(anew=True) == {STEM: {3, 11}}
        (tmp_path / f".claim-{STEM}.11").unlink()
        now[0] += 1.01
        assert claims._look() == {STEM: {3}}
        (tmp_path / f".claim-{STEM}.3").unlink()


def test_a_release_takes_earlier_generations_and_no_later_one(tmp_path, monkeypatch):
    claims = Claims(tmp_path)
    (tmp_path / f".claim-{STEM}.2").write_text("e" * 16)
    monkeypatch.setattr(claims._heart, "gone", lambda token: True)
    claim = claims.take(STEM)
    assert claim.owned()
    later = tmp_path / f".claim-{STEM}.9"
    later.write_text("f" * 16)
    assert not claim.owned()
    assert not claim.publish(NAME)
    claim.release()
    assert [path.name for path in tmp_path.glob(".claim-*")] == [later.name]
    claim.release()  # once more, which does nothing
    later.unlink()
    mine, other = claims.take(STEM), claims.take("other-s0-" + "0" * 16)
    assert mine is not None
    assert other is not None
    (tmp_path / f".claim-{STEM}.{mine._generation}").write_text("f" * 16)  # it is another's now
    claims.close()
    assert [path.name for path in tmp_path.glob(".*")] == [f".claim-{STEM}.{mine._generation}"]
    assert os.listdir(tmp_path) == [f".claim-{STEM}.{mine._generation}"]
