"""Apprise: a real service of its (JSON over HTTP) that takes, refuses or is away."""

from collections.abc import Iterator

import pytest

from exporters.notifiers.apprise import SPEC, Apprise, AppriseConfig, services
from pipeline.batch import WHOLE, Batch
from pipeline.components import Exporter, Payload
from pipeline.errors import ConfigError, PermanentError, RetryableError
from pipeline.options import Secret
from pipeline.signals import Alert, AlertState
from pipeline.testing.context import FakeContext
from tests.integration import services as servers

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[servers.Hook]:
    with (made := servers.Hook()).running():
        yield made


def url(server: servers.Service, path: str = "") -> Secret:
    return Secret(f"json://{server.url.removeprefix('http://')}/s3cr3t{path}")


def alert(state: AlertState = "firing") -> Alert:
    return Alert("asset_failure", state, "ERROR", "p", 0, 0, 0, title="<@U1> [x](y)", asset="glucose_entries")


def payload(exporter: Exporter[Alert], state: AlertState = "firing") -> Payload:
    (made,) = exporter.build(Batch([alert(state)], WHOLE, 0))
    return made


async def test_each_service_is_given_title_text_and_kind(server: servers.Hook) -> None:
    exporter = Apprise(services([url(server)]))
    await exporter.send(payload(exporter))
    await exporter.send(payload(exporter, "resolved"))
    (_, _, first), (_, _, second) = server.calls
    assert (first["title"], first["type"]) == ("🔴 ＜＠U1＞ ［x](y)", "failure")
    assert "Asset: glucose_entries" in first["message"]
    assert (second["title"], second["type"]) == ("✅ Resolved: glucose_entries", "success")


async def test_a_service_that_took_it_is_not_asked_again(server: servers.Hook) -> None:
    exporter = Apprise(services([url(server, "/one"), url(server, "/two")]))
    made = payload(exporter)
    server.faults += [servers.Fault(500)]
    with pytest.raises(RetryableError, match="did not take it") as raised:
        await exporter.send(made)
    assert "s3cr3t" not in str(raised.value)
    await exporter.send(made)
    assert [path.rsplit("/")[-1] for path, _, _ in server.calls] == ["one", "two", "one"]


async def test_it_is_off_without_urls_and_a_url_that_is_none_is_named_by_its_number() -> None:
    async with SPEC.build(AppriseConfig(), FakeContext("apprise")) as exporter:
        assert exporter.build(Batch([alert()], WHOLE, 0)) == ()
    with pytest.raises(PermanentError, match="off"):
        await exporter.send(Payload(b"", 1))
    with pytest.raises(ConfigError, match=r"urls\[1\]") as raised:
        services([Secret("json://localhost"), Secret("nothing://s3cr3t")])
    assert "s3cr3t" not in str(raised.value)


def test_without_the_library_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install 'dagtel\[apprise\]'"):
        services([Secret("json://localhost")])
