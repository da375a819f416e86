"""A message as Slack's Block Kit. Pure.

Source: https://api.slack.com/reference/block-kit/blocks. Limits: header 150 characters, section text 3,000, button
text 75, URL 3,000, 50 blocks. In mrkdwn only `&`, `<` and `>` need escaping: without `<` there are no links, mentions
or `<!channel>`; `verbatim` keeps Slack from making them out of plain text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from exporters.notifiers.message import Action, Message, cut
from pipeline.facts import Json

Style = Literal["links", "buttons"]

HEADER: Final = 150
SECTION: Final = 3000
BUTTON: Final = 75
URL: Final = 3000
FALLBACK: Final = 300

_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_HALF_ENTITY: Final = re.compile(r"&[a-z]{0,3}$")
_MENTIONS: Final[tuple[tuple[str, str], ...]] = (
    (r"[UW][A-Z0-9]{2,20}", "<@{}>"),
    (r"S[A-Z0-9]{2,20}", "<!subteam^{}>"),
    (r"here|channel|everyone", "<!{}>"),
)


def body(said: Message, actions: Style = "links", mentions: Mapping[str, str] | None = None) -> dict[str, Json]:
    """The message: `text` (what a phone's notification shows), `blocks`, `attachments`.

    The colour is an attachment's, so all but the header stands in one. `mentions` maps names in "Escalating to" to
    ids of Slack: only these are mentions.
    """
    header: Json = {"type": "header", "text": {"type": "plain_text", "text": cut(said.heading, HEADER), "emoji": True}}
    made: dict[str, Json] = {
        "text": escaped(cut(f"{said.heading} · {said.gist}".rstrip(" ·"), FALLBACK), SECTION),
        "blocks": [header],
    }
    blocks = [*_sections(said, mentions or {}), *_actions(said.actions, actions)]
    if blocks:
        made["attachments"] = [{"color": said.colour, "blocks": blocks}]
    return made


def reply(said: Message, mentions: Mapping[str, str] | None = None) -> dict[str, Json]:
    """What is added to the thread of the first message: what has changed, without what stands above it."""
    lines = [f"*{escaped(said.heading)}*", *(escaped(line) for line in said.text), *_ending(said, mentions or {})]
    return {
        "text": escaped(cut(f"{said.heading} · {said.gist}".rstrip(" ·"), FALLBACK)),
        "blocks": [_section("\n".join(lines))],
    }


def mention(id: str) -> str:
    """The markup that mentions a user (`U…`), a group (`S…`), `here` or `channel`; "" for what is no such id."""
    return next((markup.format(id) for shape, markup in _MENTIONS if re.fullmatch(shape, id)), "")


def escaped(text: str, limit: int = SECTION) -> str:
    """Text from outside for mrkdwn: inert, and at most `limit` characters once escaped."""
    return _fitting(text.translate(_ESCAPES), limit)


def _fitting(marked: str, limit: int) -> str:
    if len(marked) <= limit:
        return marked
    return _HALF_ENTITY.sub("", marked[: limit - 1]).rstrip() + "…"


def _sections(said: Message, mentions: Mapping[str, str]) -> list[Json]:
    parts = [
        [f"*{name}:* {escaped(value)}" for name, value in said.fields],
        [escaped(line) for line in said.text],
        _error_lines(said),
        ["*Problems:*", *(f"• {escaped(line)}" for line in said.members)] if said.members else [],
        ["*Downstream Impact:*", *(f"• {escaped(line)}" for line in said.impact)] if said.impact else [],
        _ending(said, mentions),
    ]
    return [_section("\n".join(lines)) for lines in parts if lines]


def _ending(said: Message, mentions: Mapping[str, str]) -> list[str]:
    lines = [escaped(line) for line in said.closing]
    if said.escalate_to:
        names = (mention(mentions.get(name, "")) or escaped(name) for name in said.escalate_to)
        lines.insert(0, f"Escalating to: {', '.join(names)}")
    return lines


def _error_lines(said: Message) -> list[str]:
    error = said.error
    if error is None:
        return []
    after = [f"    File: {escaped(error.file)}"] if error.file else []
    if error.line:
        after.append(f"    Line: {error.line}")
    if error.rest:
        after.append(f"    <{error.rest.translate(_ESCAPES)}|The whole text>")
    # What comes after is cut last: a section holds 3,000 characters, and half a link would show its markup.
    room = SECTION - sum(len(line) + 1 for line in after)
    return [_fitting(f"*{escaped(error.label)}:* {escaped(error.text)}", room), *after]


def _section(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _fitting(text, SECTION), "verbatim": True}}


def _actions(actions: tuple[Action, ...], style: Style) -> list[Json]:
    known = [action for action in actions if len(action.url) <= URL]
    if not known:
        return []
    return [_buttons(known)] if style == "buttons" else [_links(known)]


def _buttons(actions: Sequence[Action]) -> Json:
    buttons: list[Json] = [
        {"type": "button", "text": {"type": "plain_text", "text": cut(a.label, BUTTON)}, "url": a.url} for a in actions
    ]
    return {"type": "actions", "elements": buttons}


def _links(actions: Sequence[Action]) -> Json:
    text = ""
    for action in actions:  # whole links only: a cut one would show its markup
        link = f"<{action.url.translate(_ESCAPES)}|{escaped(action.label)}>"
        joined = f"{text}  ·  {link}" if text else link
        if len(joined) <= SECTION:
            text = joined
    return _section(text)
