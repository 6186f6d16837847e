"""A path holds the old file or the whole new one, nothing else; JSON comes back."""

import json
import os
import stat

import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.files import atomic_write, read_json_lines, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match="No space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_links_stay_links(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_devices_are_written_directly():
    atomic_write(os.devnull, b"x")
    assert not os.path.isfile(os.devnull)


def test_json_comes_back(tmp_path):
    value = {"name": "a \u03c3", "figures": [1, 0.5, None], "more": {}}
    write_json(tmp_path / "file.json", value)
    assert json.loads((tmp_path / "file.json").read_bytes()) == value


def test_lines_that_were_cut_off_are_left_out(tmp_path):
    assert read_json_lines(tmp_path / "absent.jsonl") == []
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n3\n{"st')
    assert read_json_lines(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}]
