"""Ways in which the files of a killed state store can come to harm."""

from collections.abc import Callable
from pathlib import Path

PARTS = ("", "-wal", "-shm", ".lock")
"""What a state store's files are called behind its path."""


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "the header is overwritten": lambda path: overwrite(path, 0, b"nonsense" * 4),
    "a page in the middle is overwritten": lambda path: (wal(path).unlink(), overwrite(path, 4096 * 5, b"\x07" * 4096)),
    "the file is cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "the file is cut within its header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "the file is empty": lambda path: path.write_bytes(b""),
    "the file and its log are empty": lambda path: (path.write_bytes(b""), wal(path).write_bytes(b"")),
    "the file is gone": lambda path: path.unlink(),
    "the file and its log are gone": lambda path: (path.unlink(), wal(path).unlink()),
    "the log is gone": lambda path: wal(path).unlink(),
    "the log is empty": lambda path: wal(path).write_bytes(b""),
    "the log's header is overwritten": lambda path: overwrite(wal(path), 0, b"nonsense" * 4),
    "the log is cut within its first commit": lambda path: wal(path).write_bytes(wal(path).read_bytes()[:2000]),
}
