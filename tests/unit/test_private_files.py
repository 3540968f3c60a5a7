"""Private files: their modes, and that nothing is overwritten or left half-written."""

import os
import stat
from pathlib import Path

import pytest

from purposematch.protocol.errors import ConfigurationError
from purposematch.server.private_files import PUBLIC_FILE, fresh_folder, read_private, write_new


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o277)
    try:
        write_new(tmp_path / "secret", b"content")
        write_new(tmp_path / "open", b"content", PUBLIC_FILE)
    finally:
        os.umask(old)
    assert (_mode(tmp_path / "secret"), _mode(tmp_path / "open")) == (0o600, 0o644)
    assert read_private(tmp_path / "secret", 7) == b"content"


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"old")
    with pytest.raises(ConfigurationError, match="exists already"):
        write_new(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_dangling_link_is_not_followed_when_writing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        write_new(tmp_path / "link", b"new")
    assert not (tmp_path / "elsewhere").exists()


def test_a_failed_flush_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        write_new(tmp_path / "file", b"content")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    write_new(tmp_path / "secret", b"content", mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_private(tmp_path / "secret", 100)


def test_a_file_that_only_its_owner_may_read_is_accepted(tmp_path: Path) -> None:
    write_new(tmp_path / "secret", b"content", 0o400)
    assert read_private(tmp_path / "secret", 100) == b"content"


def test_a_missing_file_a_folder_a_pipe_and_a_long_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        read_private(tmp_path / "none", 100)
    with pytest.raises(ConfigurationError, match=r"cannot be read|not a regular file"):
        read_private(tmp_path, 100)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_private(tmp_path / "pipe", 100)
    write_new(tmp_path / "long", b"12345")
    with pytest.raises(ConfigurationError, match="longer than 4 bytes"):
        read_private(tmp_path / "long", 4)


def test_a_new_folder_is_private_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with fresh_folder(folder):
        write_new(folder / "file", b"")
    assert _mode(folder) == 0o700
    assert os.listdir(folder) == ["file"]


def test_an_empty_folder_becomes_private(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir(0o755)
    with fresh_folder(folder):
        pass
    assert _mode(folder) == 0o700


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match="not empty"), fresh_folder(tmp_path):
        pass
    assert _mode(tmp_path) == 0o755
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_removes_what_was_made(tmp_path: Path, error: type[BaseException]) -> None:
    folder = tmp_path / "a" / "b"

    @fresh_folder(folder)
    def fill() -> None:
        (folder / "inner").mkdir()
        write_new(folder / "inner" / "file", b"")
        write_new(folder / "file", b"")
        raise error

    with pytest.raises(error):
        fill()
    assert os.listdir(tmp_path) == []


def test_an_exception_keeps_a_folder_that_was_there_before(tmp_path: Path) -> None:
    @fresh_folder(tmp_path)
    def fill() -> None:
        write_new(tmp_path / "file", b"")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fill()
    assert os.listdir(tmp_path) == []


def test_two_fillers_cannot_take_one_folder(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "folder"):
        with (
            pytest.raises(ConfigurationError, match="another process"),
            fresh_folder(tmp_path / "folder"),
        ):
            pass
        write_new(tmp_path / "folder" / "file", b"")
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"content")
    with pytest.raises(ConfigurationError, match="cannot be written"), fresh_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_bytes() == b"content"
