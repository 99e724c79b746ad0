"""A file appears whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from runner import failpoints
from runner.errors import JobInvalid, StoreFault
from runner.failpoints import Failpoint, FailpointRaised
from runner.files.sink import AtomicFile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_private_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.jsonl"
    with AtomicFile(str(target)) as file:
        file.write(b"a\n")
        file.write(b"b\n")
        assert not target.exists()
    assert target.read_bytes() == b"a\nb\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(target.parent) == ["out.jsonl"]


def test_an_error_in_between_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), AtomicFile(str(target)) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize(("point", "content"), [(Failpoint.EXPORT_BEFORE, b"old"), (Failpoint.EXPORT_AFTER, b"new")])
def test_dying_around_the_rename_leaves_one_of_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: Failpoint, content: bytes
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"old")
    monkeypatch.setattr(failpoints, "_plan", {point: ("raise", 1)})
    monkeypatch.setattr(failpoints, "_hits", failpoints.Counter())
    with pytest.raises(FailpointRaised), AtomicFile(str(target)) as file:
        file.write(b"new")
    assert target.read_bytes() == content
    assert names(tmp_path) == ["out.jsonl"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "out.jsonl"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    with AtomicFile(str(link)) as file:
        file.write(b"new")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    with AtomicFile(os.devnull) as file:
        file.write(b"x")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_dash_is_stdout() -> None:
    out = io.BytesIO()
    with AtomicFile("-", stdout=out) as file:
        file.write(b"x")
    assert out.getvalue() == b"x"


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(JobInvalid, match="cannot be written"), AtomicFile(str(tmp_path)):
        pass


def test_a_full_disk_is_a_store_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="No space left"), AtomicFile("/dev/full") as file:
        file.write(b"x" * 3_000_000)
