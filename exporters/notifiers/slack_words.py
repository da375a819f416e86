"""Slack's words for a refusal, and what each means.

Source: https://api.slack.com/messaging/webhooks#handling_errors, https://api.slack.com/methods/chat.postMessage#errors.
"""

from typing import Final

RETRIED: Final = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
     "team_added_to_org", "org_login_required"}
)  # fmt: skip
"""Words of the Web API after which the same call may succeed."""

_NO_LOGIN: Final = "the bot token is wrong or was revoked; make a new one and set bot_token (SLACK_BOT_NO_LOGIN)"
_NO_HOOK: Final = "the webhook was removed; make a new one and set webhook_url (PHLO_ALERT_SLACK_WEBHOOK)"
_ARCHIVED: Final = "the channel is archived; name another"
_OURS: Final = "Slack does not accept how the message is built; please report it"

WORDS: Final[dict[str, str]] = {
    "invalid_auth": _NO_LOGIN,
    "not_authed": _NO_LOGIN,
    "token_revoked": _NO_LOGIN,
    "token_expired": _NO_LOGIN,
    "account_inactive": _NO_LOGIN,
    "invalid_token": _NO_HOOK,
    "no_service": _NO_HOOK,
    "no_service_id": _NO_HOOK,
    "no_team": "the workspace is gone; the webhook with it",
    "no_active_hooks": _NO_HOOK,
    "team_disabled": "the workspace is disabled",
    "missing_scope": "the bot lacks the scope chat:write; add it and install the app again",
    "not_in_channel": "the bot is no member of the channel; invite it there",
    "channel_not_found": "there is no such channel, or the bot cannot see it; check `channel`, invite the bot",
    "is_archived": _ARCHIVED,
    "channel_is_archived": _ARCHIVED,
    "action_prohibited": "an administrator has forbidden this",
    "restricted_action": "an administrator has restricted who posts in this channel",
    "posting_to_general_channel_denied": "an administrator has restricted who posts in this channel",
    "user_not_found": "there is no such person; check `channel`",
    "invalid_payload": _OURS,
    "invalid_blocks": _OURS,
    "invalid_attachments": _OURS,
    "no_text": _OURS,
    "msg_too_long": _OURS,
    "too_many_attachments": _OURS,
}
