"""Sending what the user's OpenTelemetry SDK still holds, without letting a dead collector hold up a step.

The SDK exports in batches every few seconds, and Dagster's step processes may end before that (`os._exit` skips the
SDK's own exit hook). Its `force_flush` ignores the timeout and blocks for as long as the exporter retries, so it runs
on a thread that nobody has to wait for.
"""

import threading

from opentelemetry import trace

_THREAD = "dagtel-flush"


def flush(timeout_s: float = 5.0) -> bool:
    """Export all ended spans; True once that is done, False when it takes longer than `timeout_s` seconds.

    A flush that is still hanging is not joined by a second one. Without an SDK there is nothing to do: True.
    """
    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is None:
        return True
    if any(thread.name == _THREAD for thread in threading.enumerate()):
        return False
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(force_flush() is not False), name=_THREAD, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers == [True]
