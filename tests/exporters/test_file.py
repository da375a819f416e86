"""Lines of each signal, and that each stands in the file once, wherever the process dies."""

import gzip
import json
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exporters.append_file import AppendFile, Mark
from exporters.file import SPEC, File, FileConfig, Rotation
from exporters.json_lines import encode_lines
from pipeline.batch import WHOLE, Batch
from pipeline.components import Payload
from pipeline.errors import ConfigError, RetryableError
from pipeline.events import Event
from pipeline.facts import ErrorInfo
from pipeline.lineage import Impact
from pipeline.options import Size
from pipeline.signals import Alert, HistogramValue, LogRecord, Sample, Signal, Span
from pipeline.testing.context import FakeContext

pytestmark = pytest.mark.anyio

T0 = 1_795_403_982_610_659_072


def line(item: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(encode_lines([item]))  # type: ignore[list-item]
    return found


def test_a_log_record_is_a_line_with_its_time_first() -> None:
    record = LogRecord(
        T0, "INFO", "LOG", "hi", "r:1", asset_name="a", code_location="shop", extra={"rows": 1, "time": 2}
    )
    assert line(record) == {
        "time": "2026-11-23T03:19:42.610659072Z",
        "code_location": "shop",
        "level": "INFO",
        "event": "LOG",
        "message": "hi",
        "event_id": "r:1",
        "asset_name": "a",
        "rows": 1,
    }
    assert encode_lines([record]).startswith(b'{"time":')


def test_an_alert_is_a_line_of_always_the_same_fields() -> None:
    error = ErrorInfo("TimeoutError", "after 30s", "readings.py", 45, "fetch", ("a",), ("b",), "stack")
    alert = Alert(
        "asset_failure", "firing", "ERROR", "v1:abc", T0, T0, T0 + 10**9, "Failed", asset="raw/x", step_key="s",
        job="daily", run_id="r1", partition="2026-03-01", error=error, key="k",
        impact=Impact({"core/y": 1}, ("Board",), ("team:a",)),
    )  # fmt: skip
    assert line(alert) == {
        "time": "2026-11-23T03:19:42.610659Z",
        "state": "firing",
        "kind": "asset_failure",
        "severity": "ERROR",
        "asset": "raw/x",
        "step_key": "s",
        "job": "daily",
        "run_id": "r1",
        "partition": "2026-03-01",
        "fingerprint": "v1:abc",
        "error": {"type": "TimeoutError", "message": "after 30s", "file": "readings.py", "line": 45},
        "impact": {"assets": {"core/y": 1}, "exposures": ["Board"], "owners": ["team:a"]},
        "count": 1,
        "first_at": "2026-11-23T03:19:42.610659Z",
        "last_at": "2026-11-23T03:19:43.610659Z",
        "title": "Failed",
        "summary": "",
        "check": "",
        "partitions": [],
        "failing_partitions": 0,
        "owners": [],
        "group": "",
        "code_location": "",
        "key": "k",
        "reason": "",
        "window_seconds": 0.0,
        "channels": [],
        "escalate_to": [],
        "repeat_every_seconds": 0.0,
        "links": {},
        "tags": {},
        "urgency": "",
        "members": [],
        "members_total": 0,
        "grouped_by": "",
        "acknowledged_by": "",
        "late": False,
        "decisions": [],
        "assets": ["raw/x"],
    }


def test_an_alert_without_error_or_impact_says_so_and_whole_seconds_are_written_short() -> None:
    found = line(Alert("run_failure", "resolved", "ERROR", "v1", 10**9, 0, 10**9))
    assert (found["error"], found["impact"]) == (None, {"assets": {}, "exposures": [], "owners": []})
    assert (found["first_at"], found["last_at"]) == ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z")
    assert datetime.fromisoformat(str(found["last_at"])).timestamp() == 1


def test_spans_of_a_payload_are_one_otlp_request_on_one_line() -> None:
    spans = [Span("0" * 32, f"{n:016x}", "", "RUN", 1, 2, {}, ()) for n in range(3)]
    (text,) = encode_lines(spans).splitlines()
    assert len(json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3


def test_events_are_lines_of_their_own_bytes() -> None:
    def event(raw: bytes) -> Event:
        return Event(raw, "LOG", "r", 1, 10, "j", "", "")

    events = [event(b'{"a": 1}'), event(b""), event(b'{\n "b": [1,\n2]\n}')]
    assert encode_lines(events) == b'{"a": 1}\n{"b":[1,2]}\n'


def test_samples_are_lines() -> None:
    assert line(Sample("m_total", "counter", (("a", "b"),), 5.0, T0)) == {
        "name": "m_total",
        "kind": "counter",
        "labels": {"a": "b"},
        "value": 5.0,
        "time": "2026-11-23T03:19:42.610659072Z",
    }
    histogram = HistogramValue((1.0,), (2,), 3, 4.0)
    assert line(Sample("h", "histogram", (), histogram))["value"] == {
        "bounds": [1.0],
        "counts": [2],
        "count": 3,
        "sum": 4.0,
    }


def test_text_that_is_no_unicode_makes_valid_lines() -> None:
    alert = Alert("k", "firing", "ERROR", "f", 1, 1, 1, asset="\ud800", impact=Impact({"\udfff": 1}))
    assert line(alert)["asset"] == "?"
    assert line(Sample("m", "gauge", (("a", "\ud800"),), 1.0))["labels"] == {"a": "?"}


def event_of(n: int) -> Event:
    return Event(b'{"n":%d}' % n, "LOG", "r", n, 10, "j", "", "")


async def open_file(
    stack: AsyncExitStack, config: FileConfig, receipt: bytes | None = None
) -> tuple[File, FakeContext]:
    context = FakeContext(receipt=receipt)
    exporter = await stack.enter_async_context(SPEC.build(config, context))
    assert isinstance(exporter, File)
    return exporter, context


async def test_the_file_and_its_folder_are_there_from_the_start(tmp_path: Path) -> None:
    async with SPEC.build(FileConfig(path=str(tmp_path / "deep" / "out.jsonl")), FakeContext()) as exporter:
        assert (tmp_path / "deep" / "out.jsonl").read_bytes() == b""
        assert exporter.build(Batch([], WHOLE, 0)) == ()


async def test_what_the_file_held_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine\n")
    async with SPEC.build(FileConfig(path=str(path)), FakeContext()) as exporter:
        (payload,) = exporter.build(Batch([event_of(1)], WHOLE, 0))
        await exporter.send(payload)
    assert path.read_text() == 'mine\n{"n":1}\n'


async def test_a_crash_before_the_first_receipt_is_committed_doubles_no_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine\n")
    config = FileConfig(path=str(path))
    for _ in range(3):  # started, appended, killed before the commit, three times
        async with AsyncExitStack() as stack:
            exporter, _ = await open_file(stack, config)
            await exporter.send(Payload(b"one\n", 1))
            await exporter.send(Payload(b"two\n", 1))
    assert path.read_text() == "mine\none\ntwo\n"


async def test_a_tail_that_no_receipt_covers_goes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    config = FileConfig(path=str(path))
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, config)
        receipt = await exporter.send(Payload(b"kept\n", 1))
        await exporter.send(Payload(b"torn", 1))
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, config, receipt)
        assert path.read_text() == "kept\n"
        await exporter.send(Payload(b"again\n", 1))
    assert path.read_text() == "kept\nagain\n"


async def test_where_our_lines_begin_is_forgotten_once_a_receipt_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    config = FileConfig(path=str(path))
    async with AsyncExitStack() as stack:
        exporter, context = await open_file(stack, config)
        context.receipt = await exporter.send(Payload(b"one\n", 1))
        assert (tmp_path / ".out.jsonl.start").exists()
        await exporter.send(Payload(b"two\n", 1))
        assert not (tmp_path / ".out.jsonl.start").exists()
    async with AsyncExitStack() as stack:  # the state was thrown away, the output not
        exporter, _ = await open_file(stack, config)
        await exporter.send(Payload(b"three\n", 1))
    assert path.read_text() == "one\ntwo\nthree\n"


async def test_a_receipt_of_another_path_says_nothing_of_this_one(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, FileConfig(path=str(tmp_path / "a.jsonl")))
        receipt = await exporter.send(Payload(b"one\n", 1))
    path = tmp_path / "b.jsonl"
    path.write_text("a long line that was here before\n")
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, FileConfig(path=str(path)), receipt)
        await exporter.send(Payload(b"two\n", 1))
    assert path.read_text() == "a long line that was here before\ntwo\n"


async def test_a_file_that_somebody_emptied_goes_on_at_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.jsonl"
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, FileConfig(path=str(path)))
        receipt = await exporter.send(Payload(b"one\n", 1))
    path.unlink()
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, FileConfig(path=str(path)), receipt)
        await exporter.send(Payload(b"two\n", 1))
        path.unlink()
        await exporter.send(Payload(b"three\n", 1))
    assert path.read_text() == "three\n"
    assert "shorter than it was" in caplog.text


async def test_a_disk_that_takes_nothing_is_tried_again_and_no_half_line_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    real = AppendFile.append

    def full(self: AppendFile, mark: Mark, body: bytes, sync: bool) -> Mark:
        real(self, mark, body[:3], sync)
        raise OSError(28, "No space left on device")

    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, FileConfig(path=str(path), fsync="always"))
        monkeypatch.setattr(AppendFile, "append", full)
        with pytest.raises(RetryableError, match="No space left"):
            await exporter.send(Payload(b"one\n", 1))
        monkeypatch.setattr(AppendFile, "append", real)
        await exporter.send(Payload(b"one\n", 1))
    assert path.read_text() == "one\n"


async def test_a_send_that_was_cancelled_and_comes_again_stands_there_once(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, FileConfig(path=str(path)))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await exporter.send(Payload(b"one\n", 1))
        await exporter.send(Payload(b"one\n", 1))
    assert path.read_text() == "one\n"


async def test_a_path_that_cannot_be_opened_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot open"):
        async with SPEC.build(FileConfig(path=str(tmp_path / "file" / "out.jsonl")), FakeContext()):
            pass


@pytest.mark.parametrize("compress", [False, True])
async def test_a_file_is_put_aside_before_it_grows_too_long_and_old_ones_go(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "out.jsonl"
    config = FileConfig(path=str(path), rotation=Rotation(max_size=Size(10), max_files=2, compress=compress))
    async with AsyncExitStack() as stack:
        exporter, _ = await open_file(stack, config)
        for n in range(9):
            await exporter.send(Payload(b"line%d\n" % n, 1))
    ending = ".gz" if compress else ""
    names = {p.name for p in tmp_path.iterdir()} - {".out.jsonl.start"}
    assert names == {"out.jsonl", f"out.jsonl.7{ending}", f"out.jsonl.8{ending}"}
    assert path.read_text() == "line8\n"
    aside = (tmp_path / f"out.jsonl.8{ending}").read_bytes()
    assert (gzip.decompress(aside) if compress else aside) == b"line7\n"


def all_of(path: Path) -> bytes:
    """All that was written, what was put aside first, in its order."""
    aside = sorted(
        path.parent.glob(f"{path.name}.[0-9]*"), key=lambda p: int(p.name.removesuffix(".gz").split(".")[-1])
    )
    texts = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in aside]
    return b"".join([*texts, path.read_bytes()])


class Crashes(RuleBasedStateMachine):
    """Payloads are appended, receipts committed, the process dies: what is committed and unsent comes again."""

    @initialize(size=st.sampled_from([0, 12, 30]), compress=st.booleans(), before=st.booleans())
    def start(self, size: int, compress: bool, before: bool) -> None:
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.path = self.folder / "out.jsonl"
        if before:
            self.path.write_text("before\n")
        self.before = ["before"] if before else []
        self.config = FileConfig(path=str(self.path), rotation=Rotation(max_size=Size(size), compress=compress))
        self.committed: bytes | None = None
        self.acked = 0  # payloads whose acknowledgement is committed
        self.sent = 0  # payloads sent, in this life
        self.last: bytes | None = None
        self.crash()

    def teardown(self) -> None:
        if hasattr(self, "temporary"):
            self.temporary.cleanup()

    @rule()
    def crash(self) -> None:
        self.sent, self.last = self.acked, self.committed
        self.context = FakeContext(receipt=self.committed)

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        async def run() -> None:
            async with SPEC.build(self.config, self.context) as exporter:
                for _ in range(count):
                    self.last = await exporter.send(Payload(b"line %d\n" % self.sent, 1))
                    self.sent += 1

        # Each `run` opens the file anew, as after a crash: so what is in hand must be committed or sent again.
        self.sent = self.acked
        anyio.run(run)

    @rule()
    def commit(self) -> None:
        self.committed, self.acked = self.last, self.sent
        self.context = FakeContext(receipt=self.committed)

    @rule(junk=st.binary(max_size=20))
    def tear(self, junk: bytes) -> None:
        """An append that a crash cut short."""
        if (self.folder / ".out.jsonl.start").exists() or self.committed:
            with self.path.open("ab") as file:
                file.write(junk)
            self.crash()

    @invariant()
    def every_committed_line_stands_there_once(self) -> None:
        if not hasattr(self, "path") or not self.path.exists():
            return

        async def reopened() -> None:
            async with SPEC.build(self.config, FakeContext(receipt=self.committed)):
                pass

        if self.sent == self.acked:
            anyio.run(reopened)
            assert all_of(self.path).decode().splitlines() == self.before + [f"line {n}" for n in range(self.acked)]


Crashes.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestCrashes = Crashes.TestCase


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=12), st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=60)
def test_any_mark_can_be_gone_back_to(bodies: list[bytes], size: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "x"
        file = AppendFile(path, size, compress=data.draw(st.booleans()))
        marks, told = [file.open()], [b""]
        for body in bodies:
            marks.append(file.append(marks[-1], body, sync=False))
            told.append(told[-1] + body)
        at = data.draw(st.integers(0, len(bodies)))
        assert file.restore(marks[at])
        assert all_of(path) == told[at]


@pytest.mark.parametrize("bad", ["", "folder/"])
def test_a_path_must_name_a_file(bad: str) -> None:
    with pytest.raises(ValueError, match="file"):
        FileConfig(path=bad)


def test_it_takes_any_signal_one_payload_after_the_other() -> None:
    assert SPEC.takes == frozenset(Signal)
    assert SPEC.serial
