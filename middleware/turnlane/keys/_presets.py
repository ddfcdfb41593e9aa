"""Where the session key stands in requests of well-known protocols and servers."""

import os
from dataclasses import dataclass

from turnlane.keys._body import JsonExtractor, form_field, json_body, json_paths, load_json
from turnlane.keys._compose import first_of, overridable
from turnlane.keys._contract import BodyExtractor, KeyExtractor, Scope, canonical
from turnlane.keys._scope import header

__all__ = ("a2a", "adk", "ag_ui", "agent_os", "openai_chat", "openai_responses", "openclaw")


@dataclass(frozen=True, slots=True)
class AdkExtractor(BodyExtractor):
    """See `adk`."""

    parts: tuple[JsonExtractor, ...]
    defaults: tuple[str | None, ...]
    param: str

    def parse(self, scope: Scope, body: bytes) -> str | None:
        """Return app, user and session in one key."""
        document = load_json(body, self.param)
        found: list[str] = []
        for part, default in zip(self.parts, self.defaults, strict=True):
            raw = part.find(document) or default
            value = None if raw is None else canonical(raw, part.param)
            if value is None:
                return None
            found.append(value.replace("%", "%25").replace("/", "%2F"))  # no longer than it must be
        return "/".join(found)


def openai_chat() -> KeyExtractor:
    """OpenAI chat completions: the header `x-session-key`, else `metadata.session_id` in the body.

    `user` is not used: it names a person, who may have many conversations.
    """
    return first_of("x-session-key", json_body("metadata.session_id"))


def openai_responses() -> KeyExtractor:
    """OpenAI responses: `conversation` (text, or an object with an `id`), else `metadata.session_id`.

    `previous_response_id` is not used: it names a response, and changes with every turn.
    """
    return json_paths("conversation", "conversation.id", "metadata.session_id")


def openclaw() -> KeyExtractor:
    """OpenClaw: the header `x-openclaw-session-key`, unless the body has a `session_override`."""
    return overridable(header("x-openclaw-session-key"), json_body("session_override"))


def ag_ui() -> KeyExtractor:
    """AG-UI: `threadId` (or `thread_id`) in the body."""
    return json_paths("threadId", "thread_id")


def a2a() -> KeyExtractor:
    """A2A: `contextId` of the message, over JSON-RPC (`params.message`) or REST (`message`).

    A message without one begins a new context, whose id the server chooses: it has no lane to wait for.
    """
    return json_paths("params.message.contextId", "message.contextId")


def adk(*, default_app: str | None = None) -> KeyExtractor:
    """Google ADK (`/run`, `/run_sse`): app name, user id and session id of the body, in one key.

    Args:
        default_app: the app of a request that names none; None for what `ADK_DEFAULT_APP_NAME` says when this is made,
            as ADK's own web app has it.
    """
    names = (("appName", "app_name"), ("userId", "user_id"), ("sessionId", "session_id"))
    parts = tuple(json_paths(*pair) for pair in names)
    app = os.environ.get("ADK_DEFAULT_APP_NAME") if default_app is None else default_app
    return AdkExtractor(parts, (app or None, None, None), "app_name, user_id and session_id in the JSON body")


def agent_os() -> KeyExtractor:
    """Agno AgentOS: the form field `session_id`. Needs `turnlane[forms]`."""
    return form_field("session_id")
