"""Which links a notification carries, and for how long they work."""

import msgspec
import pytest

from pipeline.action_links import Signer
from pipeline.channels import NOBODY
from pipeline.config.model import ApiConfig, WebserverConfig
from pipeline.facts import ErrorInfo
from pipeline.options import Duration
from pipeline.runtime.action_links import ActionLinks
from pipeline.signals import Alert, Links
from pipeline.testing.clock import VirtualClock

NOW = 1_795_435_200
API = ApiConfig(
    address="127.0.0.1:8890",
    url="https://dagtel.example.com/",
    link_lifetime=Duration("2h"),
    dagster=WebserverConfig(url="http://dagster:3000"),
)
FIRING = Alert(
    "asset_failure", "firing", "ERROR", "v1:ab", 5, 5, 5, asset="raw/orders", run_id="run-1", key="v1:ab#2",
    links=Links(run="https://dagster/runs/run-1"),
)  # fmt: skip
SIGNER = Signer(["k" * 32])


def links(alert: Alert, api: ApiConfig = API) -> Links:
    return ActionLinks(api, lambda _: SIGNER, VirtualClock(NOW * 10**9))(alert).links


def given(alert: Alert, api: ApiConfig = API) -> set[str]:
    found = links(alert, api)
    return {name for name in ("silence", "acknowledge", "retry") if getattr(found, name)}


def changed(**fields: object) -> Alert:
    return msgspec.structs.replace(FIRING, **fields)


def test_a_failure_can_be_silenced_acknowledged_and_retried_and_keeps_its_other_links() -> None:
    made = links(FIRING)
    assert made.run == "https://dagster/runs/run-1"
    for deed in ("silence", "acknowledge", "retry"):
        url = getattr(made, deed)
        base, token = url.rsplit("/", 1)
        assert base == "https://dagtel.example.com/act"
        act = SIGNER.read(token, NOW * 10**9)
        assert (act.deed, act.alert, act.about) == (deed, "v1:ab#2", "raw/orders")
        assert act.run == ("run-1" if deed == "retry" else "")
        assert act.until_s == NOW + 7200  # by the wall's clock: the alert may be old news


@pytest.mark.parametrize(
    ("alert", "wanted"),
    [
        (changed(state="digest"), {"silence", "acknowledge", "retry"}),
        (changed(state="escalated"), {"silence", "acknowledge", "retry"}),
        (changed(acknowledged_by="Ann"), {"silence", "retry"}),
        (changed(run_id=""), {"silence", "acknowledge"}),
        (changed(kind="sla_breach"), {"silence", "acknowledge"}),
        (changed(kind="check_failure"), {"silence", "acknowledge"}),
        (changed(kind="check_failure", error=ErrorInfo("ValueError", "x")), {"silence", "acknowledge", "retry"}),
        (changed(state="resolved"), set()),
        (changed(state="failing"), set()),
        (changed(kind="overflow"), set()),
        (changed(kind="still_broken"), set()),
        (changed(channels=(NOBODY,)), set()),
    ],
)
def test_there_is_a_link_for_what_is_left_to_be_done(alert: Alert, wanted: set[str]) -> None:
    assert given(alert) == wanted


def test_without_a_url_there_are_none_and_without_a_webserver_no_retry() -> None:
    assert given(FIRING, msgspec.structs.replace(API, url="")) == set()
    assert given(FIRING, msgspec.structs.replace(API, dagster=WebserverConfig())) == {"silence", "acknowledge"}
