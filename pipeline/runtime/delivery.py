"""Sends committed payloads: retry, timeout, circuit breaker, and what becomes of those that are refused.

Alike for all exporters. A payload ends in exactly one of four ways: delivered, refused (a dead letter with the
backend's answer), overtaken by a newer one, or still in the outbox when the process stops.
"""

import logging
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, stop_never
from tenacity.wait import wait_exponential

from pipeline.alert_records import Delivered
from pipeline.clock import Clock, SystemClock
from pipeline.components import Payload, Receipt
from pipeline.delivery import RetryOnFailure
from pipeline.errors import PartialError, PermanentError, RetryableError, StateError
from pipeline.runtime.breaker import Breaker, Circuit
from pipeline.runtime.gate import Gate
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.overtaking import Entry
from pipeline.runtime.seldom import Seldom
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import ExporterMeter
from pipeline.store.state import Ack

log = logging.getLogger("dagtel.delivery")

LOG_EVERY_S = 10.0
"""One line about failures of an exporter in this time; those in between are counted in the next."""
LOAD_AGAIN_S = 1.0
ANSWER = 2000
"""Characters of a backend's answer that are on record."""
MANY_REFUSED = 5
"""So many payloads refused in a row are no bad payloads: the exporter's status says so."""


class Delivery:
    """The senders of one exporter."""

    def __init__(
        self,
        outbox: Outbox,
        load: Callable[[int], Awaitable[Payload | None]],
        ack: Callable[[Ack, bool], Awaitable[None]],
        refuse: Callable[[Payload, str, bool, str], None],
        jitter: Callable[[float], float],
        statuses: Statuses,
        meter: ExporterMeter,
        look: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
        clock: Clock | None = None,
        send: Callable[[Payload], Awaitable[Receipt | None]] | None = None,
        calm: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        """`look`: whether what waits here is still ours to send; see `Fence.look`. `send`: the exporter's, or what
        stands before it. `calm`: waited for where an earlier process has left something."""
        self._clock = clock or SystemClock()
        self._outbox, self._load, self._ack, self._refuse, self._look = outbox, load, ack, refuse, look
        self._send = send or outbox.exporter.send
        self._jitter, self._statuses, self._meter, self._calm = jitter, statuses, meter, calm
        self._component = f"exporters.{outbox.id}"
        self._gate = Gate(Breaker(outbox.delivery.circuit_breaker))
        self._failures, self._refusals = Seldom(LOG_EVERY_S), Seldom(LOG_EVERY_S)
        self._troubled: set[int] = set()
        """Payloads that failed and are not done yet."""
        self._refused_in_a_row = 0

    @property
    def circuit(self) -> Circuit:
        """The state of its circuit breaker."""
        return self._gate.breaker.state

    async def run(self) -> None:
        """Send until cancelled."""
        self._statuses.set(self._component, Status.OK)
        if self._outbox.ready:  # what sends it may have to be loaded first: 0.1 s for HTTP, as much for a history
            await self._calm()
        if self._outbox.spec.urgent:
            await self._learn()
        senders = 1 if self._outbox.spec.serial else self._outbox.delivery.sending_queue.num_consumers
        async with anyio.create_task_group() as tasks:
            for _ in range(senders):
                tasks.start_soon(self._send_all)

    async def _send_all(self) -> None:
        while True:
            entry = await self._outbox.next()
            at_once = self._outbox.spec.urgent
            receipt: Receipt | None = None
            payload: Payload | None = None
            with anyio.CancelScope() as entry.scope:
                try:
                    payload = entry.payload or await self._loaded(entry.id)
                    if payload is not None:
                        receipt = await self._deliver(entry, payload)
                except _Refused:
                    at_once = False  # its dead letter is stored with the next checkpoint: both in one, or neither
            self._outbox.acked(entry.id)
            if not entry.scope.cancelled_caught:  # else its shard's next owner sends it
                told = self._told(entry, payload)
                await self._ack(Ack(entry.id, self._outbox.id, receipt, entry.shard, self._outbox.place, told), at_once)
            # Tenacity leaves the entry in a cycle of objects, which is collected late: not so the bytes.
            entry.payload = payload = None

    def _told(self, entry: Entry, payload: Payload | None) -> Delivered | None:
        """What became of a notification's payload, for those who keep records."""
        if payload is None or not payload.about:
            return None
        who, answer = self._outbox.id, entry.answer[:ANSWER]
        return Delivered(payload.about, who, entry.outcome, self._clock.wall_ns(), entry.calls, answer)

    async def _learn(self) -> None:
        """Read what an earlier process of ours left, to know which of it has been overtaken."""
        for entry in self._outbox.unread:
            payload = await self._loaded(entry.id)
            if payload is not None:
                self._outbox.known(entry, payload)

    async def _loaded(self, id: int) -> Payload | None:
        """The payload from disk; while it cannot be read it is tried again."""
        while True:
            try:
                return await self._load(id)
            except RetryableError as error:
                self._statuses.set(self._component, Status.RECOVERABLE, str(error))
                await anyio.sleep(LOAD_AGAIN_S)

    async def _deliver(self, entry: Entry, payload: Payload) -> Receipt | None:
        """Send until it is delivered. Raises _Refused once it lies in the dead letters."""
        try:
            receipt: Receipt | None = await self._retrying(entry)(self._attempt, entry, payload)
        except _Overtaken:
            entry.outcome = "overtaken"
            self._meter.overtaken(1)
            return None
        except PartialError as error:
            entry.outcome, entry.answer = "refused", str(error)
            count = min(error.count, payload.items)
            self._meter.sent(payload.items - count, len(payload.body))
            self._give_up(entry, payload, f"partly refused: {error}", count, partly=True)
        except PermanentError as error:
            entry.outcome, entry.answer = "refused", str(error)
            self._give_up(entry, payload, f"refused: {error}", payload.items)
        except RetryableError as error:
            entry.outcome = "dead_lettered"
            self._give_up(entry, payload, f"given up: {error}", payload.items)
        except StateError:
            raise
        except Exception as error:
            log.exception("An exporter raised.", extra={"exporter": self._outbox.id})
            entry.outcome, entry.answer = "dead_lettered", f"{type(error).__name__}: {error}"
            self._give_up(entry, payload, f"{type(error).__name__}: {error}", payload.items)
        else:
            self._meter.sent(payload.items, len(payload.body))
            self._refused_in_a_row = 0
            if self._troubled <= {entry.id}:
                self._statuses.set(self._component, Status.OK)
            return receipt
        finally:
            self._troubled.discard(entry.id)
        raise _Refused

    # --- one attempt ---

    async def _attempt(self, entry: Entry, payload: Payload) -> Receipt | None:
        """One call, once the gate lets it pass. Raises RetryableError when there was no answer in time, and _Overtaken
        when there is nothing left to say."""
        call = await self._gate.enter(entry.failures)
        if self._outbox.overtaken(entry):
            self._gate.abandoned(call)
            raise _Overtaken
        told = False
        try:
            await self._looked()
            entry.calls += 1
            receipt = await self._call(payload)
            told = True
            self._answered(call)
        except RetryableError as error:
            told = True
            entry.failures += 1
            entry.answer = str(error)
            self._call_failed(call, error)
            raise
        except StateError:
            raise
        except Exception:
            told = True
            self._answered(call)  # it refuses this payload, so it is there
            raise
        finally:
            if not told:
                self._gate.abandoned(call)
        return receipt

    async def _looked(self) -> None:
        """Raises StateError when the payload is not ours any more. While the store does not say, nothing is sent."""
        while True:
            try:
                await self._look()
                return
            except RetryableError as error:
                self._statuses.set(self._component, Status.RECOVERABLE, str(error))
                await anyio.sleep(LOAD_AGAIN_S)

    async def _call(self, payload: Payload) -> Receipt | None:
        timeout = self._outbox.delivery.timeout
        try:
            with self._meter.attempt(payload.items), anyio.fail_after(timeout or None):
                return await self._send(payload)
        except TimeoutError as error:
            raise RetryableError(f"no answer within {timeout}") from error

    def _answered(self, call: int) -> None:
        if self._gate.answered(call):
            down = anyio.current_time() - self._gate.breaker.opened_s
            log.info(
                "Circuit closed, sending again.", extra={"exporter": self._outbox.id, "after_secs": round(down, 1)}
            )

    def _call_failed(self, call: int, error: RetryableError) -> None:
        if self._gate.failed(call, self._asked(error)):
            self._meter.circuit_opened()
            facts = {
                "exporter": self._outbox.id,
                "failures": self._gate.breaker.failures,
                "wait_secs": round(self._gate.wait_s, 1),
                "error": str(error),
            }
            log.warning("Circuit opened, no calls for a while.", extra=facts)

    def _asked(self, error: RetryableError) -> float | None:
        """The wait that the backend asked for, within bounds."""
        if error.retry_after is None:
            return None
        return min(error.retry_after, self._outbox.delivery.retry_on_failure.max_retry_after)

    # --- and again ---

    def _retrying(self, entry: Entry) -> AsyncRetrying:
        policy = self._outbox.delivery.retry_on_failure
        return AsyncRetrying(
            sleep=anyio.sleep,
            retry=retry_if_exception_type(RetryableError) if policy.enabled else _never,
            stop=stop_after_delay(policy.max_elapsed_time) if policy.max_elapsed_time else stop_never,
            wait=_Wait(policy, self._jitter, self._gate, self._asked),
            before_sleep=lambda state: self._failed(entry, state),
            reraise=True,
        )

    def _failed(self, entry: Entry, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._meter.failed(type(error).__name__)
        self._troubled.add(entry.id)
        waiting = "; no calls for a while" if self._gate.is_shut else ""
        self._statuses.set(self._component, Status.RECOVERABLE, f"{error}{waiting}")
        if self._failures.due(anyio.current_time()):
            facts = {
                "exporter": self._outbox.id,
                "attempt": state.attempt_number,
                "wait_secs": round(state.upcoming_sleep or self._gate.wait_s, 2),
                "error": str(error),
                "payload": entry.id,
                "more": self._failures.since() or "",
            }
            log.warning("Export failed, retrying.", extra=facts)

    def _give_up(self, entry: Entry, payload: Payload, reason: str, items: int, partly: bool = False) -> None:
        self._meter.refused(items)
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= MANY_REFUSED:
            self._statuses.set(self._component, Status.RECOVERABLE, reason)
        if self._refusals.due(anyio.current_time()):
            facts = {"exporter": self._outbox.id, "reason": reason, "more": self._refusals.since() or ""}
            log.error("A payload goes to the dead letters.", extra=facts)
        self._refuse(payload, reason, partly, entry.shard)


class _Overtaken(Exception):
    """A newer payload says all that is left to say."""


class _Refused(Exception):
    """The payload lies in the dead letters."""


def _never(state: RetryCallState) -> bool:
    return False


class _Wait:
    """Exponential waits with jitter, and never shorter than the backend asked for; none where the gate waits."""

    def __init__(
        self,
        policy: RetryOnFailure,
        jitter: Callable[[float], float],
        gate: Gate,
        asked: Callable[[RetryableError], float | None],
    ) -> None:
        self._exponential = wait_exponential(
            multiplier=policy.initial_interval, exp_base=policy.multiplier, max=policy.max_interval
        )
        self._spread, self._jitter = policy.randomization_factor, jitter
        self._gate, self._asked = gate, asked

    def __call__(self, state: RetryCallState) -> float:
        if self._gate.is_shut:
            return 0.0
        wait = self._exponential(state) * (1 + self._jitter(self._spread))
        error = state.outcome.exception() if state.outcome else None
        asked = self._asked(error) if isinstance(error, RetryableError) else None
        return max(wait, asked or 0.0)
