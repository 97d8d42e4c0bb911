"""From a file's bytes to text: compression, then encoding. Knows no format.

A file is decompressed by its first bytes, whatever its name. Text is UTF-8, or what its byte-order mark says; otherwise
the encoding is detected, and an uncertain detection is an error, not a guess.
"""

import bz2
import gzip
import io
import logging
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from workbench.data.files.encodings import detect
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
_HEAD = 4096
_SAMPLE = 1 << 16
"""Bytes from which an encoding is detected, of lines that are not UTF-8."""
_BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def inner_suffix(path: Path) -> str:
    """The suffix of the format in lower case, such as `.csv` for `a.csv.gz`."""
    return _decompressed(path).suffix.lower()


def stem(path: Path) -> str:
    """The name without the suffixes of format and compression, such as `a.b` for `a.b.csv.gz`."""
    return _decompressed(path).stem


def _decompressed(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def open_bytes(path: Path) -> IO[bytes]:
    """A file's content, decompressed.

    Raises:
        WorkbenchError: by its first bytes it is an archive, a Git LFS pointer or a web page.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    _refuse(path, head)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if head.startswith(b"BZh"):
        return bz2.open(path, "rb")
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(path, "rb")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _refuse(path: Path, head: bytes) -> None:
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise WorkbenchError(
            path,
            "a Git LFS pointer, not the file itself",
            expected="the data itself",
            remedy="run `git lfs pull` in its repository, or download the file",
        )
    if head.startswith(b"PK\x03\x04"):
        raise WorkbenchError(path, "a zip archive or an Excel workbook", remedy="unpack it, or save the sheet as CSV")
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise WorkbenchError(
            path, "a web page, not data", remedy="download the file itself, not the page that shows it"
        )


@dataclass(frozen=True)
class Text:
    """A file as text."""

    path: Path
    encoding: str

    def lines(self) -> Iterator[str | UnicodeDecodeError]:
        """Lines with their ends. In a UTF-8 file, a line that is not UTF-8 comes as its error."""
        if not self.encoding.startswith("utf-8"):
            number = 0
            try:
                with self.open() as file:
                    for line in file:
                        number += 1
                        yield line
            except UnicodeDecodeError as error:
                raise WorkbenchError(
                    f"{self.path}, line {number + 1}",
                    f"not {self.encoding}, the encoding of the file: {error.reason}",
                    expected=f"text in {self.encoding} or UTF-8",
                    remedy="the file may be cut off: copy or download it again",
                ) from None
            return
        with open_bytes(self.path) as file:
            for number, raw in enumerate(file):
                try:
                    yield (raw.removeprefix(b"\xef\xbb\xbf") if number == 0 else raw).decode("utf-8")
                except UnicodeDecodeError as error:
                    yield error

    def open(self) -> io.TextIOWrapper:
        """The text as a file that keeps line ends as they are."""
        return io.TextIOWrapper(open_bytes(self.path), encoding=self.encoding, newline="")

    def read(self) -> str:
        """The whole text.

        Raises:
            WorkbenchError: a line of a UTF-8 file is not UTF-8.
        """
        parts = []
        for number, line in enumerate(self.lines(), start=1):
            if isinstance(line, UnicodeDecodeError):
                raise WorkbenchError(f"{self.path}, line {number}", **not_utf8(line))
            parts.append(line)
        return "".join(parts)


def text_of_file(path: Path) -> Text:
    """A file as text in its encoding; a warning names an encoding that was detected.

    Raises:
        WorkbenchError: the encoding is uncertain; the message has a line and the likely readings.
    """
    with open_bytes(path) as file:
        head = file.read(_HEAD)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return Text(path, encoding)
    wide = _wide(head)
    if wide:
        return Text(path, wide)
    sample, number = _lines_not_utf8(path)
    if not sample:
        return Text(path, "utf-8")
    detected, readings = detect(sample)
    if detected is None:
        listed = "; ".join(f"as {name} it reads {example!r}" for name, example in readings.items())
        raise WorkbenchError(
            f"{path}, line {number}",
            f"not UTF-8, and its encoding is uncertain: {listed or 'no encoding fits'}",
            expected="text in UTF-8",
            remedy="convert the file from the encoding it was written in: iconv -f ENCODING -t utf-8 OLD > NEW",
        )
    _warn(str(path), detected, readings[detected])
    return Text(path, detected)


@lru_cache(maxsize=64)
def _warn(path: str, encoding: str, example: str) -> None:
    _log.warning(
        "%s: not UTF-8; read as %s, which was detected: %r. If that is wrong, convert the file to UTF-8",
        *(path, encoding, example),
    )


def not_utf8(error: UnicodeDecodeError) -> dict[str, str]:
    """The arguments of the error for a line that is not UTF-8 in a UTF-8 file."""
    before = error.object[max(0, error.start - 20) : error.start].decode("utf-8", errors="replace")
    return {
        "problem": f"not UTF-8: byte 0x{error.object[error.start]:02x} after {before!r}",
        "expected": "text in UTF-8, as in the other lines",
        "remedy": "fix or delete the line",
    }


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: records begin with an ASCII character, padded with NUL bytes."""
    zeros = tuple(byte == 0 for byte in head[:4])
    known: dict[tuple[bool, ...], str] = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",  # two ASCII characters
        (True, False, True, False): "utf-16-be",
        (False, True, False, False): "utf-16-le",  # one, then a character such as U+4E00
        (True, False, False, False): "utf-16-be",
    }
    return known.get(zeros)


def _lines_not_utf8(path: Path) -> tuple[bytes, int]:
    """Lines that are not UTF-8 and the number of the first; nothing for a UTF-8 file with a few bad lines.

    A line of mostly valid characters counts as UTF-8: one broken byte must not turn the others into mojibake.
    """
    sample, first, good = b"", 0, 0
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError:
                first = first or number
                read = [letter for letter in line.decode("utf-8", errors="replace") if not letter.isascii()]
                good += 1 if read.count("\ufffd") * 2 < len(read) else -1
                sample += line[:_SAMPLE] if len(sample) < _SAMPLE else b""
    return (sample, first) if good < 0 else (b"", 0)
