"""Any signal → a file of JSON lines, each item exactly once, whatever happens to the process.

A payload is appended only after the checkpoint that holds it, and acknowledged with a receipt: the path and where the
file then ended. On start the file is cut back to the last committed receipt, so what a crash left behind it goes and
comes again. Before the first receipt there is nothing to cut back to, so where our lines begin is written beside the
file (`.spans.jsonl.start`) before the first of them, and removed once a receipt is committed.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
from anyio import to_thread

from exporters.append_file import AppendFile, Mark
from exporters.json_lines import Item, encode_lines, without_edges
from pipeline.batch import Batch
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery
from pipeline.errors import ConfigError, RetryableError
from pipeline.options import Duration, Size
from pipeline.signals import Edges, Signal


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a file is put aside as `<path>.<n>` and a new one begun. Lines are never split."""

    max_size: Size = Size(0)
    """Put it aside before it grows beyond this. 0: never."""
    max_files: int = 0
    """Keep so many files that were put aside. 0: all."""
    compress: bool = False
    """Compress them (`<path>.<n>.gz`)."""

    def __post_init__(self) -> None:
        if self.max_files < 0 or self.max_size < 0:
            raise ValueError("max_size and max_files must be 0 or more")


class FileConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any signal as JSON lines in a file; each item stands there once, also after a crash.

    Spans: an OTLP/JSON request a line. Log records, alerts, metric samples: one a line. Events: as they were read.
    The file is made at start and only appended to; what it held before stays. It must have no other writer.
    """

    path: str
    """The file. Its folder is made where it is missing."""
    rotation: Rotation = Rotation()
    """When to begin a new file."""
    fsync: Literal["never", "always"] = "never"
    """`always`: each payload is on the disk before it counts as delivered, for machines that lose power."""

    def __post_init__(self) -> None:
        if not self.path or self.path.endswith("/"):
            raise ValueError("path must name a file")


class _Receipt(msgspec.Struct, frozen=True):
    path: str
    generation: int
    length: int


class File:
    """The exporter."""

    def __init__(self, config: FileConfig, context: Context, file: AppendFile, start: "Start", mark: Mark) -> None:
        self._config, self._context = config, context
        self._file, self._start, self._mark = file, start, mark

    def build(self, batch: Batch[Item | Edges]) -> Sequence[Payload]:
        """The batch as lines."""
        items: list[Item] = without_edges(batch.items)
        body = encode_lines(items)
        return (Payload(body, len(items)),) if body else ()

    @property
    def joins(self) -> int:
        """As many lines as fit into a file that is put aside at a size."""
        return self._config.rotation.max_size or sys.maxsize

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        """The lines of several as one."""
        bodies = (payload.body, *(other.body for other in more))
        return Payload(b"".join(bodies), payload.items + sum(other.items for other in more)) if more else payload

    async def send(self, payload: Payload) -> Receipt | None:
        """Append it. Raises RetryableError while the disk does not take it; then no part of it stays."""
        try:
            # The mark moves only when this returns: a call that was cancelled or failed is undone by the next.
            self._mark = await to_thread.run_sync(self._append, payload.body)
        except OSError as error:
            raise RetryableError(f"cannot write {self._config.path}: {error.strerror or error}") from error
        return msgspec.json.encode(_Receipt(self._config.path, self._mark.generation, self._mark.length))

    def _append(self, body: bytes) -> Mark:
        if self._context.receipt is None:
            self._start.remember(self._mark)
        else:
            self._start.forget()
        return self._file.append(self._mark, body, self._config.fsync == "always")


class Start:
    """Where our lines begin in a file, kept beside it until the first receipt is committed."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f".{path.name}.start")
        self._stands = self.path.exists()

    def read(self) -> Mark | None:
        """What an earlier process remembered; None without, or when it is damaged."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Mark)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def remember(self, mark: Mark) -> None:
        """Only the first call counts."""
        if not self._stands:
            part = self.path.with_name(self.path.name + ".part")
            part.write_bytes(msgspec.json.encode(mark))
            part.rename(self.path)
            self._stands = True

    def forget(self) -> None:
        if self._stands:
            self.path.unlink(missing_ok=True)
            self._stands = False


def _resume(config: FileConfig, file: AppendFile, start: Start, receipt: Receipt | None) -> tuple[Mark, str]:
    """Cut the file back to what counts; where that is, and what a person should know of it."""
    end = file.open()
    committed = msgspec.json.decode(receipt, type=_Receipt) if receipt else None
    if committed is not None and committed.path == config.path:
        mark: Mark | None = Mark(committed.generation, committed.length)
        start.forget()
    else:
        mark = start.read()
    if mark is None:
        return end, ""
    if file.restore(mark):
        return mark, ""
    return file.open(), "The file is shorter than it was; going on at its end."


@asynccontextmanager
async def build(config: FileConfig, context: Context) -> AsyncIterator[File]:
    path, rotation = Path(config.path), config.rotation
    file = AppendFile(path, rotation.max_size, rotation.max_files, rotation.compress)
    start = Start(path)
    try:
        mark, warning = await to_thread.run_sync(_resume, config, file, start, context.receipt)
    except OSError as error:
        raise ConfigError(f"cannot open {config.path}: {error.strerror or error}") from error
    if warning:
        context.log.warning(warning, extra={"path": config.path})
    yield File(config, context, file, start, mark)


# No timeout: an append cannot be called off half way, it ends or fails by itself.
SPEC = ExporterSpec("file", FileConfig, build, frozenset(Signal), serial=True, delivery=Delivery(timeout=Duration(0)))
