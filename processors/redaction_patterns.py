"""What secrets look like in text: the built-in patterns of `redaction`, each with what a text must hold to have one.

The needles are the speed of it: a regular expression that tries twenty alternatives takes 8 µs for a short message,
asking for a fixed text 0.03 µs, for one character 0.015, and nearly all messages hold none. So texts are asked for the
characters of `GATES` first, and only where there is one for the needles that hold it. Needles of `folded` patterns are
compared with the text in lower case, where it has `=` or `:`. Every pattern is linear: each repeat is bounded, or ends
at a character that it cannot pass.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

PatternName = Literal[
    "assignments", "headers", "urls", "bearer", "private_keys", "jwt", "aws", "github", "gitlab", "slack", "stripe",
    "google", "packages", "emails", "cards",
]  # fmt: skip

GATES: Final = "_-:@"
"""Characters that are asked for before the needles that hold them."""


class Pattern(msgspec.Struct, frozen=True):
    """One look of a secret. The group `secret` is what is replaced, the rest of the match stays.

    `needles`: without one of these in the text there is no match; empty: the expression is tried on every text.
    `counts`: whether a match is one after all (a card's check digit).
    """

    regex: re.Pattern[str]
    needles: tuple[str, ...] = ()
    folded: bool = False
    counts: Callable[[str], bool] | None = None


_WORDS: Final = (
    r"passw(?:or)?d|passphrase|pwd|secret|token|api[_\- ]?key|access[_\- ]?key|private[_\- ]?key|account[_\- ]?key"
    r"|credentials?"
)
_KEYS: Final = tuple(
    f"{whose}{joint}key" for whose in ("api", "access", "private", "account") for joint in ("", "_", "-", " ")
)
"""Whole, because `api` alone stands in every stack of Dagster's, and the search there takes 100 µs."""
_VALUE: Final = (
    r'(?:\\"(?P<inner>(?:[^"\\\n]|\\(?!"))+)|"(?P<double>(?:[^"\\\n]|\\.)+)|\'(?P<single>(?:[^\'\\\n]|\\.)+)'
    r"|(?P<bare>[^\s\"',;&\\]+))"
)
_PEM: Final = r"[A-Z ]{0,40}PRIVATE KEY-----"


def _regex(source: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(source, flags)


def luhn(digits: str) -> bool:
    """Whether the check digit of a card's number is right; anything that is no digit is passed over."""
    total = 0
    for place, digit in enumerate(reversed([int(c) for c in digits if c.isdigit()])):
        total += digit if place % 2 == 0 else (digit * 2 - 9 if digit > 4 else digit * 2)
    return total % 10 == 0


# In the order in which they are applied: a header's value is more than the word behind its name.
PATTERNS: Final[Mapping[PatternName, Pattern]] = {
    # Authorization: Basic …, Cookie: …: to the end of the line or quote
    "headers": Pattern(
        _regex(r"(?:authorization|cookie)\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?P<secret>[^\s\"'\\][^\r\n\"'\\]*)"),
        ("authorization", "cookie"),
        True,
    ),
    "bearer": Pattern(
        _regex(r"\bbearer {1,3}(?P<secret>(?=[A-Za-z._~+/=-]{0,500}\d)[A-Za-z0-9._~+/=-]{16,})"), ("earer ",)
    ),
    # password=…, "api_key": "…", SLACK_TOKEN: …; the word ends the name (`tokens: 5` is no secret)
    "assignments": Pattern(
        _regex(rf"(?:{_WORDS})\d{{0,3}}\\?[\"']?\s{{0,3}}(?:=>|:=|=|:)\s{{0,3}}{_VALUE}"),
        ("passw", "passphrase", "pwd", "secret", "token", "credential", *_KEYS),
        True,
    ),
    # postgresql://user:…@host
    "urls": Pattern(_regex(r"://[^\s/:@\"'<>]{0,200}:(?P<secret>[^\s/\"'<>]{1,500})@"), ("://",)),
    "private_keys": Pattern(
        _regex(rf"-----BEGIN {_PEM}(?P<secret>.*?)(?:-----END {_PEM}|\Z)", re.DOTALL),
        ("PRIVATE KEY-----",),
    ),
    "jwt": Pattern(
        _regex(r"(?<![\w-])(?P<secret>eyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{0,1000})", 0), ("eyJ",)
    ),
    "aws": Pattern(_regex(r"\b(?P<secret>A[KS]IA[A-Z0-9]{16})\b", 0), ("AKIA", "ASIA")),
    "github": Pattern(
        _regex(r"\b(?P<secret>gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})", 0),
        ("gh", "github_pat_"),  # `gh` is as rare as its five longer forms, and asked for once
    ),
    "gitlab": Pattern(_regex(r"\b(?P<secret>glpat-[\w-]{20,255})", 0), ("glpat-",)),
    "slack": Pattern(
        _regex(
            r"\b(?P<secret>xox[abeoprs]-[\w-]{10,255}|xapp-[\w-]{10,255})"
            r"|hooks\.slack\.com/(?:services|workflows|triggers)/(?P<rest>[\w/-]{8,255})", 0,
        ),
        ("xox", "xapp-", "hooks.slack.com"),  # `xox` is as rare as its seven longer forms
    ),
    "stripe": Pattern(
        _regex(r"\b(?P<secret>[sr]k_(?:live|test)_[A-Za-z0-9]{16,255})", 0), ("k_live_", "k_test_")
    ),
    "google": Pattern(_regex(r"\b(?P<secret>AIza[\w-]{35})", 0), ("AIza",)),
    "packages": Pattern(
        _regex(r"\b(?P<secret>npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[\w-]{50,1000})", 0), ("npm_", "pypi-AgEI")
    ),
    "emails": Pattern(_regex(r"(?<![\w.+-])(?P<secret>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})", 0), ("@",)),
    "cards": Pattern(_regex(r"(?<![\w.-])(?P<secret>\d(?:[ -]?\d){12,18})(?![\w-])", 0), counts=luhn),
}  # fmt: skip
