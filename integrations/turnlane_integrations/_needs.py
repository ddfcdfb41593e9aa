"""What an integration says where its framework is missing."""

__all__ = ("missing",)


def missing(package: str, extra: str, error: ImportError) -> ImportError:
    """Return the error for a framework that is not installed, or too old, which says how to get it.

    Args:
        package: what is needed.
        extra: the extra of turnlane that installs it.
        error: what its import has raised.
    """
    return ImportError(f"this integration needs {package}: pip install 'turnlane[{extra}]' ({error})", name=error.name)
