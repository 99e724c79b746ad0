"""Blocks of lines: cut at 0x0A alone, numbered, hashed, and taken up again in the middle."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InputInvalid
from runner.files.source import open_input
from runner.files.sources import blocks
from runner.files.sources.blocks import Block, records

ODD_BREAKS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg".encode()
NASTY = b"\xef\xbb\xbfone\r\n\n  \t\n" + ODD_BREAKS + b"\r\n\r\nlast"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(blocks, "PIECE_BYTES", 16)


def written(folder: Path, data: bytes, name: str = "in.jsonl") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def blocks_of(path: str, start: int = 0) -> list[Block]:
    with open_input(path) as opened:
        return list(opened.blocks(start))


def test_bom_crlf_blanks_and_a_missing_last_newline_are_no_trouble(tmp_path: Path) -> None:
    (block,) = blocks_of(written(tmp_path, NASTY))
    assert records(block) == [(1, b"one"), (4, ODD_BREAKS), (6, b"last")]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("in.jsonl", bytes),
        ("in.ndjson", bytes),
        ("in", bytes),
        ("in.jsonl.gz", gzip.compress),
        ("in.jsonl", gzip.compress),
        ("in.jsonl.zst", zstd.compress),
        ("in.txt", zstd.compress),
    ],
)
def test_compressed_inputs_read_as_plain_ones(tmp_path: Path, name: str, pack: object) -> None:
    (block,) = blocks_of(written(tmp_path, pack(NASTY), name))  # type: ignore[operator]
    assert len(records(block)) == 3
    assert block.end_offset == len(NASTY)
    assert block.digest == hashlib.sha256(NASTY).hexdigest()


def test_two_gzip_files_one_after_the_other_are_one_input(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b"a\n") + gzip.compress(b"b\n"), "in.gz")
    assert [line for block in blocks_of(path) for _, line in records(block)] == [b"a", b"b"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_cut_compressed_input_is_named_as_damaged(tmp_path: Path, pack: object) -> None:
    packed = pack(os.urandom(50_000))  # type: ignore[operator]
    with pytest.raises(InputInvalid, match="is damaged"):
        blocks_of(written(tmp_path, packed[: len(packed) // 2], "in.gz"))


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.binary(max_size=100).map(lambda b: b.replace(b"\n", b"")), max_size=30), end=st.booleans())
def test_blocks_put_together_are_the_input(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bool
) -> None:
    data = b"\n".join(lines) + (b"\n" if end else b"")
    path = written(tmp_path_factory.mktemp("in"), data)
    found = blocks_of(path)
    assert b"\n".join(line for block in found for line in block.lines) == data.removesuffix(b"\n")
    at, line = 0, 1
    for block in found:
        assert (block.start_offset, block.first_line) == (at, line)
        assert block.digest == hashlib.sha256(data[: block.end_offset]).hexdigest()
        at, line = block.end_offset, line + len(block.lines)
    assert at == len(data)


@pytest.mark.usefixtures("small_blocks")
def test_reading_goes_on_at_the_end_of_any_block(tmp_path: Path) -> None:
    path = written(tmp_path, b"".join(b"line %d\n" % n for n in range(100)))
    whole = blocks_of(path)
    assert len(whole) > 5
    for n, block in enumerate(whole):
        with open_input(path) as opened:
            assert list(opened.blocks(block.end_offset)) == whole[n + 1 :]
            assert opened.prefix_digest == block.digest


def test_an_input_shorter_than_what_was_read_has_changed(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="has become shorter") as caught:
        blocks_of(written(tmp_path, b"a\n"), start=10)
    assert caught.value.name == "input-changed"


def test_a_line_too_long_to_send_is_named_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PIECE_BYTES", 16)
    monkeypatch.setattr(blocks, "MAX_LINE_BYTES", 100)
    assert len(blocks_of(written(tmp_path, b"a\n" + b"x" * 100 + b"\nb"))[0].lines) == 3
    for length in (101, 150, 5_000):
        with pytest.raises(InputInvalid, match=r"line 2 is longer than") as caught:
            blocks_of(written(tmp_path, b"a\n" + b"x" * length + b"\nb"))
        assert caught.value.name == "bad-row"


def test_stdin_is_read_but_cannot_be_checked_first() -> None:
    opened = open_input("-", stdin=io.BytesIO(gzip.compress(b"a\nb")))
    assert (opened.place, opened.checkable, opened.size) == ("-", False, None)
    assert [block.lines for block in opened.blocks()] == [[b"a", b"b"]]


def test_a_pipe_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not open_input(str(tmp_path / "pipe")).checkable


def test_a_file_is_known_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, b"{}\n")
    monkeypatch.chdir(tmp_path)
    opened = open_input("in.jsonl")
    assert (opened.place, opened.checkable, opened.size) == (path, True, 3)


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    assert blocks_of(written(tmp_path, b"")) == []


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nothing.jsonl", "there is no input file"),
        (".", "is a directory"),
        ("x.xlsx", "has a format that is not read here"),
        ("none-*.jsonl", "no file fits"),
        ("a\x00b", "could not be opened"),
    ],
)
def test_an_input_that_cannot_be_read_says_why(path: str, sentence: str) -> None:
    with pytest.raises(InputInvalid, match=sentence):
        open_input(path)


def test_a_missing_input_suggests_the_one_beside_it(tmp_path: Path) -> None:
    written(tmp_path, b"", "tickets.jsonl")
    with pytest.raises(InputInvalid) as caught:
        open_input(str(tmp_path / "ticket.jsonl"))
    assert any("tickets.jsonl" in hint for hint in caught.value.hints)
