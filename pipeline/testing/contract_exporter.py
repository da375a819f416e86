"""The laws of exporters: `ExporterContract`, `HttpExporterContract` for one that calls by `context.http`, and
`PayloadContract` for one whose `send` needs a real backend and is tested against that.

A payload is stored before it is sent and sent again after a crash, so it must be the same bytes whoever builds it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import strategies as st

from pipeline.batch import WHOLE, Batch
from pipeline.components import ExporterSpec, Joins, Payload, Seals
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response
from pipeline.signals import Alert, Edges, Signal
from pipeline.testing import strategies
from pipeline.testing.builders import START_NS
from pipeline.testing.context import FakeContext, FakeHttp
from pipeline.testing.contract_spec import SpecContract, law
from pipeline.testing.rig import fresh


class PayloadContract(SpecContract):
    """What an exporter makes of items, without sending it."""

    spec: ExporterSpec[Any]

    def items(self) -> st.SearchStrategy[list[Any]]:
        """Items to export, of one type each time, as the runtime hands them over."""
        signals = [signal for signal in Signal if signal in self.spec.takes]
        return st.one_of([_only(kind, signal) for signal in signals for kind in strategies.ITEM_TYPES[signal]])

    def leaves_out(self, item: Any) -> bool:
        """Whether the exporter does not send this one. Edges are for `lineage_impact` alone."""
        return isinstance(item, Edges)

    def test_no_items_make_no_payload(self) -> None:
        assert self._payloads([]) == [], "a payload of nothing would be stored, sent and acknowledged"

    @law(40)
    def test_the_same_items_make_the_same_bytes(self, data: st.DataObject) -> None:
        items = data.draw(self.items())
        before = [repr(item) for item in items]

        async def twice() -> tuple[list[Payload], list[Payload]]:
            async with self.built() as exporter:
                return list(exporter.build(_batch(items))), list(exporter.build(_batch(items)))

        with self.world():
            one, two = anyio.run(twice)
            assert one == two, "built twice, the payloads differ"
            assert self._payloads(items) == one, "another instance builds other payloads: build must be pure"
        assert [repr(item) for item in items] == before, "build changed an item"

    @law(40)
    def test_its_payloads_cover_the_items(self, data: st.DataObject) -> None:
        items = data.draw(self.items())
        with self.world():
            payloads = self._payloads(items)
        sent = sum(not self.leaves_out(item) for item in items)
        assert sum(payload.items for payload in payloads) == sent, f"{sent} items to send, the payloads say otherwise"
        assert all(payload.items > 0 for payload in payloads), "a payload that covers no item"

    @law(10)
    def test_sealing_changes_the_bytes_alone_and_always_alike(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            async with self.built() as exporter:
                payloads = list(exporter.build(_batch(items)))
                if not isinstance(exporter, Seals):
                    return
                for payload in payloads:
                    body, sealed = payload.body, exporter.seal(payload)
                    assert exporter.seal(payload) == sealed, "sealed twice, a payload differs (a time within?)"
                    assert payload.body == body, "seal changed the payload itself"
                    assert (sealed.items, sealed.key) == (payload.items, payload.key), "seal changed more than bytes"

        with self.world():
            anyio.run(run)

    @law(20)
    def test_payloads_that_are_sealed_as_one_hold_all_items(self, data: st.DataObject) -> None:
        batches = data.draw(st.lists(self.items(), min_size=1, max_size=4))

        async def run() -> None:
            async with self.built() as exporter:
                built = [payload for items in batches for payload in exporter.build(_batch(items))]
                if not isinstance(exporter, Joins):
                    return
                assert exporter.joins >= 0, "joins is a number of bytes"
                given = [payload for payload in built if payload.headers == built[0].headers and not payload.key]
                if not given:
                    return
                before = [repr(payload) for payload in given]
                sealed = exporter.seal(*given)
                assert exporter.seal(*given) == sealed, "sealed twice, the payloads differ"
                assert [repr(payload) for payload in given] == before, "sealing changed the payloads given"
                assert sealed.items == sum(payload.items for payload in given), "items were lost or added"
                assert sealed.headers == exporter.seal(given[0]).headers, "several have other headers than one"

        with self.world():
            anyio.run(run)

    @law(15)
    def test_messages_of_one_problem_are_kept_in_order(self, data: st.DataObject) -> None:
        items = data.draw(self.items())
        if not self.spec.urgent:
            return
        keys: dict[str, set[str]] = {}
        with self.world():
            for item in items:
                if isinstance(item, Alert):
                    keys.setdefault(item.fingerprint, set()).update(p.key for p in self._payloads([item]))
        assert not any("" in found for found in keys.values()), "a notifier's payload needs a key (the fingerprint)"
        assert all(len(found) <= 1 for found in keys.values()), "messages of one problem have several keys"

    def _payloads(self, items: Sequence[Any]) -> list[Payload]:
        """Built by an instance of its own."""

        async def build() -> list[Payload]:
            async with self.built() as exporter:
                return list(exporter.build(_batch(items)))

        if not hasattr(self, "folder"):
            with self.world():
                return anyio.run(build)
        return anyio.run(build)


class ExporterContract(PayloadContract):
    """An exporter: what it makes of items, and that it sends it once however often it is interrupted."""

    over_http = False

    def outside(self) -> Any:
        """What has arrived, as far as a test can see it: a file's text. None: it cannot be seen."""
        return None

    def answer(self) -> Response:
        """What a backend says that has taken a payload."""
        return Response(200, {}, b"")

    @law(5)
    def test_what_it_sends_arrives(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            http = self._http()
            sent = await self._send_all(items, http, interrupted=False)
            if sent:
                assert bool(http.requests) == self.over_http, (
                    "an exporter that calls by context.http keeps HttpExporterContract, any other ExporterContract"
                )

        with self.world():
            anyio.run(run)

    @law(5)
    def test_a_cancelled_send_is_as_one_that_was_not_made(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run(interrupted: bool) -> Any:
            await self._send_all(items, self._http(), interrupted=interrupted)
            return self.outside()

        found = []
        for interrupted in (False, True):
            with self.world():
                found.append(anyio.run(run, interrupted))
        assert found[0] == found[1], "after a cancelled send and another, more or less arrived than after one"

    async def _send_all(self, items: Sequence[Any], http: FakeHttp, interrupted: bool) -> int:
        """Build, seal and send; gives how many payloads."""
        async with self.built(FakeContext(self.spec.name, http=http)) as exporter:
            payloads = _ready(exporter, items)
            for payload in payloads:
                if interrupted:
                    with anyio.CancelScope() as scope:
                        scope.cancel()
                        await exporter.send(payload)
                receipt = await exporter.send(payload)
                assert receipt is None or isinstance(receipt, bytes), f"send gave {type(receipt).__name__}"
            return len(payloads)

    def _http(self) -> FakeHttp:
        return FakeHttp(lambda method, url, body: self.answer())


class HttpExporterContract(ExporterContract):
    """An exporter that calls by `context.http`: what each kind of answer makes of a payload."""

    over_http = True

    def test_without_an_answer_it_is_tried_again(self) -> None:
        self._fails(FakeHttp(), RetryableError)

    @pytest.mark.parametrize("status", [400, 401, 404, 413])
    def test_a_refusal_is_final(self, status: int) -> None:
        self._fails(FakeHttp(lambda method, url, body: Response(status, {}, b"no")), PermanentError)

    @pytest.mark.parametrize("status", [429, 503])
    def test_it_waits_as_long_as_it_is_asked_to(self, status: int) -> None:
        http = FakeHttp(lambda method, url, body: Response(status, {"retry-after": "7"}, b"later"))
        error = self._fails(http, RetryableError)
        assert isinstance(error, RetryableError)
        assert error.retry_after == 7, "Retry-After is lost; let pipeline.http.expect_ok read the answer"

    def test_a_payload_that_is_sent_again_is_the_same_request(self) -> None:
        http = self._http()

        async def run(exporter: Any, payload: Payload) -> None:
            await exporter.send(payload)
            await exporter.send(payload)

        self._with_one(http, run)
        first, second = http.requests[: len(http.requests) // 2], http.requests[len(http.requests) // 2 :]
        assert first == second, "sent again after a crash, the request would differ"

    def test_a_call_that_hangs_can_be_given_up(self) -> None:
        async def run(exporter: Any, payload: Payload) -> None:
            hanging: _Hangs = exporter_http[0]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exporter.send, payload)
                await hanging.called.wait()
                tasks.cancel_scope.cancel()
            hanging.hangs = False
            await exporter.send(payload)

        exporter_http = [_Hangs(lambda method, url, body: self.answer())]
        self._with_one(exporter_http[0], run)
        one, two = exporter_http[0].requests
        assert one == two, "after a call that was given up, the request differs"

    def _fails(self, http: FakeHttp, kind: type[Exception]) -> Exception:
        raised: list[Exception] = []

        async def run(exporter: Any, payload: Payload) -> None:
            with pytest.raises(kind) as caught:
                await exporter.send(payload)
            raised.append(caught.value)

        self._with_one(http, run)
        return raised[0]

    def _with_one(self, http: FakeHttp, run: Callable[[Any, Payload], Any]) -> None:
        """Call `run` with an exporter and a payload of one plain item."""

        async def use() -> None:
            async with self.built(FakeContext(self.spec.name, http=http)) as exporter:
                payloads = _ready(exporter, [item for item in self.examples() if not self.leaves_out(item)])
                assert payloads, "examples() makes no payload"
                await run(exporter, payloads[0])

        with self.world():
            anyio.run(use)

    def examples(self) -> list[Any]:
        """One item or more that make a payload."""
        signal = next(signal for signal in Signal if signal in self.spec.takes)
        return [strategies.EXAMPLES[signal]]


class _Hangs(FakeHttp):
    """Does not answer, until `hangs` is off."""

    hangs = True

    def __init__(self, answer: Callable[[str, str, bytes], Response]) -> None:
        super().__init__(answer)
        self.called = anyio.Event()

    async def request(self, *args: Any, **more: Any) -> Response:
        response = await super().request(*args, **more)
        self.called.set()
        if self.hangs:
            await anyio.sleep_forever()
        return response


def _batch(items: Sequence[Any]) -> Batch[Any]:
    return Batch(fresh(items), WHOLE, START_NS)


def _only(kind: type, signal: Signal) -> st.SearchStrategy[list[Any]]:
    return strategies.items(signal).map(lambda items: [item for item in items if isinstance(item, kind)])


def _ready(exporter: Any, items: Sequence[Any]) -> list[Payload]:
    payloads = list(exporter.build(_batch(items)))
    return [exporter.seal(payload) for payload in payloads] if isinstance(exporter, Seals) else payloads
