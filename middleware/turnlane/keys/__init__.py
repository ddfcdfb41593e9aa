"""How a request names its session.

An extractor is any sync or async callable of the connection that returns its session key, or None. Those made
here are values: frozen, checked when they are made, and refusing what is ambiguous.
"""

from turnlane.keys._body import form_field, json_body
from turnlane.keys._compose import first_of, from_setting, has_principal, overridable, principal_of_key, scoped_by
from turnlane.keys._contract import (
    MAX_KEY_BYTES,
    BodyExtractor,
    Connection,
    KeyExtractor,
    Scope,
    ScopeExtractor,
    canonical,
    extract,
    is_scope_only,
    is_scoped,
    needs_body,
    param_of,
    require_key,
)
from turnlane.keys._presets import a2a, adk, ag_ui, agent_os, openai_chat, openai_responses, openclaw
from turnlane.keys._scope import cookie, header, path, query, raw_headers, route_path

__all__ = (
    "MAX_KEY_BYTES",
    "BodyExtractor",
    "Connection",
    "KeyExtractor",
    "Scope",
    "ScopeExtractor",
    "a2a",
    "adk",
    "ag_ui",
    "agent_os",
    "canonical",
    "cookie",
    "extract",
    "first_of",
    "form_field",
    "from_setting",
    "has_principal",
    "header",
    "is_scope_only",
    "is_scoped",
    "json_body",
    "needs_body",
    "openai_chat",
    "openai_responses",
    "openclaw",
    "overridable",
    "param_of",
    "path",
    "principal_of_key",
    "query",
    "raw_headers",
    "require_key",
    "route_path",
    "scoped_by",
)
