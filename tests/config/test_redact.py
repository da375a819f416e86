"""What a printed configuration shows, and what it never shows."""

import msgspec
import pytest

from pipeline.config.fields import fields
from pipeline.config.redact import looks_secret, redacted, without_secrets
from pipeline.config.source import parse
from pipeline.facts import Json
from pipeline.options import Duration, Secret
from pipeline.yaml_tree import dump


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    key_file: str = ""
    pin: Secret = Secret("")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    url: str = ""
    pin: Secret = Secret("")
    pins: tuple[Secret, ...] = ()
    headers: dict[str, Secret] = {}
    tls: Tls | None = None
    wait: Duration = Duration("1s")
    names: tuple[str, ...] = ()
    port: int = 0


HINTS = {field.name: field.hint for field in fields(Options)}
ENV = {"V": "visible", "T": "45", "L": "a,b", "S": "s3cret"}


def shown(text: str, known: bool = True) -> Json:
    source = parse(text, "f.yaml", env=ENV)
    tree = redacted(source.tree, {"exporters.x": HINTS if known else None})
    assert isinstance(tree, dict)
    sections = tree["exporters"]
    assert isinstance(sections, dict)
    return sections["x"]


def block(text: str) -> str:
    return "exporters:\n  x:\n" + "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("pin: abc", {"pin": "[redacted]"}),
        ("pin: ''", {"pin": ""}),
        ("pin:", {"pin": None}),
        ("pin: ${env:S}", {"pin": "[redacted]"}),
        ("pin: 1234", {"pin": "[redacted]"}),
        ("pins: [a, b]", {"pins": ["[redacted]", "[redacted]"]}),
        ("headers: {x: a}", {"headers": {"x": "[redacted]"}}),
        ("tls: {pin: a, key_file: /k}", {"tls": {"pin": "[redacted]", "key_file": "/k"}}),
        ("url: http://h/p", {"url": "http://h/p"}),
        ("url: https://user:pw@h/p", {"url": "https://[redacted]@h/p"}),
        ("url: https://h/p?a=1&api_key=abc", {"url": "https://h/p?a=1&api_key=[redacted]"}),
        ("url: https://hooks.slack.com/services/T/B/x", {"url": "[redacted]"}),
        ("unknown: {password: a, user: b}", {"unknown": {"password": "[redacted]", "user": "b"}}),
        ("tokens: {prod: a, test: [b]}", {"tokens": {"prod": "[redacted]", "test": ["[redacted]"]}}),
        ("url: ${env:V}", {"url": "visible"}),
        ("wait: ${env:T}", {"wait": 45}),
        ("port: ${env:T}", {"port": 45}),
        ("url: ${env:T}", {"url": "45"}),
        ("names: ${env:L}", {"names": ["a", "b"]}),
        ("url: a$${b}$$$$c$", {"url": "a$${b}$$$c$"}),
    ],
)
def test_a_block_of_a_known_type_shows_all_but_its_secrets(text: str, plain: Json) -> None:
    assert shown(block(text)) == plain


def test_a_block_of_an_unknown_type_shows_nothing_that_came_from_outside() -> None:
    assert shown(block("a: ${env:V}\nb: plain\nc: {key: '${env:S}'}"), known=False) == {
        "a": "[redacted]",
        "b": "plain",
        "c": {"key": "[redacted]"},
    }


def test_the_name_of_a_component_is_no_reason_to_hide_it() -> None:
    source = parse("processors: {redact/secrets: {a: b}, token: {a: b}}")
    tree = redacted(source.tree, {"processors.redact/secrets": {}, "processors.token": {}})
    assert tree == {"processors": {"redact/secrets": {"a": "b"}, "token": {"a": "b"}}}


def test_what_is_shown_can_be_read_again_as_the_same() -> None:
    text = block("url: a$${b}$$$$c$\nwait: ${env:T}\nnames: ${env:L}\nport: 5\ntls: {key_file: no}")
    once = shown(text)
    again = redacted(parse(dump({"exporters": {"x": once}}), env={}).tree, {"exporters.x": HINTS})
    assert again == {"exporters": {"x": once}}


@pytest.mark.parametrize(
    "name",
    [
        *("password", "sasl_password", "SMTP_PASSWORD", "client_secret", "token", "auth_token", "api_key", "apikey"),
        *("api-key", "authorization", "Authorization", "webhook_url", "routing_key", "private_key", "access_key_id"),
        *("passphrase", "cookie", "pass"),
    ],
)
def test_names_that_hold_secrets_are_known(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["key", "keys", "key_file", "token_file", "password_file", "path", "username", "author", "url", "compass"]
)
def test_names_that_hold_none_are_left_alone(name: str) -> None:
    assert not looks_secret(name)


def test_a_text_without_secrets_stays_as_it_is() -> None:
    assert without_secrets("http://jaeger:4318/v1/traces?x=1") == "http://jaeger:4318/v1/traces?x=1"
