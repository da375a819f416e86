"""Sends committed payloads: retry, timeout, and what becomes of those that are refused.

Alike for all exporters. A payload ends in exactly one of three ways: delivered, refused (a dead letter with the
backend's answer), or still in the outbox when the process stops.
"""

import logging
from collections.abc import Awaitable, Callable

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, stop_never
from tenacity.wait import wait_exponential

from pipeline.components import Payload, Receipt
from pipeline.delivery import RetryOnFailure
from pipeline.errors import PartialError, PermanentError, RetryableError
from pipeline.runtime.outbox import Entry, Outbox
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import ExporterMeter
from pipeline.store.state import Ack

log = logging.getLogger("dagtel.delivery")


class Delivery:
    """The senders of one exporter."""

    def __init__(
        self,
        outbox: Outbox,
        load: Callable[[int], Awaitable[Payload | None]],
        ack: Callable[[Ack, bool], Awaitable[None]],
        refuse: Callable[[str, str, Payload], None],
        jitter: Callable[[float], float],
        statuses: Statuses,
        meter: ExporterMeter,
    ) -> None:
        self._outbox, self._load, self._ack, self._refuse = outbox, load, ack, refuse
        self._jitter, self._statuses, self._meter = jitter, statuses, meter
        self._component = f"exporters.{outbox.id}"

    async def run(self) -> None:
        """Send until cancelled."""
        self._statuses.set(self._component, Status.OK)
        senders = 1 if self._outbox.spec.serial else self._outbox.delivery.sending_queue.num_consumers
        async with anyio.create_task_group() as tasks:
            for _ in range(senders):
                tasks.start_soon(self._send_all)

    async def _send_all(self) -> None:
        while True:
            entry = await self._outbox.next()
            payload = entry.payload or await self._load(entry.id)
            receipt = await self._deliver(entry, payload) if payload is not None else None
            self._outbox.acked(entry.id)
            await self._ack(Ack(entry.id, self._outbox.id, receipt), self._outbox.spec.urgent)

    async def _deliver(self, entry: Entry, payload: Payload) -> Receipt | None:
        """Send until it is delivered or refused for ever."""
        try:
            receipt: Receipt | None = await self._retrying(entry)(self._attempt, payload)
        except PartialError as error:
            self._give_up(payload, f"partly refused: {error}", min(len(error.failed), payload.items))
            return None
        except PermanentError as error:
            self._give_up(payload, f"refused: {error}", payload.items)
            return None
        except RetryableError as error:
            self._give_up(payload, f"given up: {error}", payload.items)
            return None
        except Exception as error:
            log.exception("An exporter raised.", extra={"exporter": self._outbox.id})
            self._give_up(payload, f"{type(error).__name__}: {error}", payload.items)
            return None
        self._meter.sent(payload.items, len(payload.body))
        self._statuses.set(self._component, Status.OK)
        return receipt

    async def _attempt(self, payload: Payload) -> Receipt | None:
        timeout = self._outbox.delivery.timeout
        try:
            with self._meter.attempt(payload.items), anyio.fail_after(timeout or None):
                return await self._outbox.exporter.send(payload)
        except TimeoutError as error:
            raise RetryableError(f"no answer within {timeout}") from error

    def _retrying(self, entry: Entry) -> AsyncRetrying:
        policy = self._outbox.delivery.retry_on_failure
        return AsyncRetrying(
            sleep=anyio.sleep,
            retry=retry_if_exception_type(RetryableError) if policy.enabled else _never,
            stop=stop_after_delay(policy.max_elapsed_time) if policy.max_elapsed_time else stop_never,
            wait=_Wait(policy, self._jitter),
            before_sleep=lambda state: self._failed(entry, state),
            reraise=True,
        )

    def _failed(self, entry: Entry, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._meter.failed(type(error).__name__)
        self._statuses.set(self._component, Status.RECOVERABLE, str(error))
        if state.attempt_number & (state.attempt_number - 1) == 0:  # the 1st, 2nd, 4th, 8th …: no storm in the log
            facts = {
                "exporter": self._outbox.id,
                "attempt": state.attempt_number,
                "wait_secs": round(state.upcoming_sleep, 2),
                "error": str(error),
                "payload": entry.id,
            }
            log.warning("Export failed, retrying.", extra=facts)

    def _give_up(self, payload: Payload, reason: str, items: int) -> None:
        self._meter.refused(items)
        log.error("A payload goes to the dead letters.", extra={"exporter": self._outbox.id, "reason": reason})
        self._refuse(self._component, reason, payload)


def _never(state: RetryCallState) -> bool:
    return False


class _Wait:
    """Exponential waits with jitter, and never shorter than the backend asked for."""

    def __init__(self, policy: RetryOnFailure, jitter: Callable[[float], float]) -> None:
        self._exponential = wait_exponential(
            multiplier=policy.initial_interval, exp_base=policy.multiplier, max=policy.max_interval
        )
        self._spread, self._jitter = policy.randomization_factor, jitter

    def __call__(self, state: RetryCallState) -> float:
        wait = self._exponential(state) * (1 + self._jitter(self._spread))
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, RetryableError) else None
        return max(wait, asked or 0.0)
