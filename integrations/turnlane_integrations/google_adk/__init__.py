"""google-adk: runs of one session one after the other, and stale sessions told as what they are.

    runner = LaneRunner(runtime=runtime, app=app, session_service=service)             # instead of Runner
    async for event in runner.run_async(user_id=user, session_id=session, new_message=message): ...

    app.add_exception_handler(StaleSessionError, refuse_stale_session)                 # of get_fast_api_app, for /run

Needs `turnlane[google-adk]`.
"""

from turnlane_integrations._needs import missing as _missing

try:
    from turnlane_integrations.google_adk.fence import FencedSessions
    from turnlane_integrations.google_adk.key import session_key
    from turnlane_integrations.google_adk.runner import LaneRunner
    from turnlane_integrations.google_adk.stale import SessionTakeover, refuse_stale_session
except ImportError as _error:
    raise _missing("google-adk", "google-adk", _error) from _error

__all__ = ("FencedSessions", "LaneRunner", "SessionTakeover", "refuse_stale_session", "session_key")
