"""Links that do something: signed, so that nobody makes them up, and over after a while. Pure; itsdangerous' door.

A link is the whole permission: who has it may do what it says, once, and nothing else. So it names one alert (or one
run) and one act, and it ends. The key is `service.api.secret`, else one that the state store keeps.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Literal

import msgspec
from itsdangerous import BadData, URLSafeSerializer

from pipeline.clock import SECOND

Deed = Literal["silence", "acknowledge", "retry"]

LONGEST: Final = 1500
"""Characters of a token; what is longer is none of ours."""
NAMED: Final = 120
"""Characters of the alert's name that a link carries, for the page to show."""
_SALT: Final = "dagtel.action.v1"


_SHORT: Final = {"deed": "d", "until_s": "u", "alert": "k", "about": "a", "run": "r"}


class Act(msgspec.Struct, frozen=True, omit_defaults=True, rename=_SHORT):
    """What a link does. `alert` is a notification's key (`v1:…#2`), `about` its name as people read it, `run` the run
    to be re-executed; `until_s` (Unix seconds) is when the link ends.
    """

    deed: Deed
    until_s: int
    alert: str = ""
    about: str = ""
    run: str = ""

    @property
    def id(self) -> str:
        """What is done twice by this link is done once: the id of its command.

        Two messages of one alert have two links, so the second hour of silence can be asked for by the next message.
        A run is re-executed once, whichever message it is asked from.
        """
        what = f"{self.deed}\n{self.run}" if self.deed == "retry" else f"{self.deed}\n{self.alert}\n{self.until_s}"
        return f"link-{sha256(what.encode('utf-8', 'replace')).hexdigest()[:16]}"


class LinkError(Exception):
    """A link that does nothing. `reason` says which kind, the text what a person is told."""

    def __init__(self, reason: Literal["expired", "forged"], text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Signer:
    """Makes tokens and reads them. Of several keys the last one signs, all are accepted."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer(
            list(keys), salt=_SALT, signer_kwargs={"digest_method": sha256, "key_derivation": "hmac"}
        )

    def token(self, act: Act) -> str:
        """The act as the last part of a URL."""
        short = msgspec.structs.replace(act, about=act.about[:NAMED])
        return str(self._serializer.dumps(msgspec.to_builtins(short)))

    def read(self, token: str, now_ns: int) -> Act:
        """The act of a token. Raises LinkError: not made by this dagtel, damaged, or over."""
        try:
            if len(token) > LONGEST:
                raise ValueError("too long")
            act = msgspec.convert(self._serializer.loads(token), Act)
        except (BadData, msgspec.ValidationError, ValueError) as error:
            raise LinkError(
                "forged",
                "This link was not made by this dagtel, or it was cut on its way, or the key that signed it has been "
                "changed since.",
            ) from error
        if now_ns >= act.until_s * SECOND:
            raise LinkError("expired", "This link is too old; a newer message of the same alert has newer links.")
        return act
