"""A stand-in for the Nightscout API: readings, or a timeout, as the run's weather says."""

import random
import time
from dataclasses import dataclass

from dagster_dagtel import trace_operation

URL = "https://api.nightscout.info/api/v1/entries"


@dataclass(frozen=True)
class Reading:
    """One measurement; `mg_dl` is blood glucose in milligrams per decilitre."""

    id: str
    mg_dl: int


def fetch(weather: str, attempt: int) -> list[Reading]:
    """Between 470 and 500 readings. Raises TimeoutError when the API is down, or on the first attempt when flaky."""
    with trace_operation("http.request GET /api/v1/entries", {"url.full": URL, "http.request.method": "GET"}) as span:
        time.sleep(0.04)
        if weather == "down" or (weather == "flaky" and attempt == 1):
            raise TimeoutError("Connection timeout after 30s")
        span.set_attribute("http.response.status_code", 200)
    dice = random.Random()
    return [Reading(f"r{n}", dice.randint(70, 180)) for n in range(dice.randint(470, 500))]
