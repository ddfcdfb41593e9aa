"""What is given to an integration is what it needs, or is refused where it is given."""

from turnlane import Runtime, Transcripts

__all__ = ("a_runtime", "some_transcripts")


def a_runtime(given: object) -> Runtime:
    """Return a runtime.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, Runtime):
        raise ValueError(f"runtime must be a turnlane.Runtime, not {given!r}")
    return given


def some_transcripts(given: object, name: str) -> Transcripts:
    """Return transcripts that were given by this name.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, Transcripts):
        raise ValueError(f"{name} must be turnlane.Transcripts, not {given!r}")
    return given
