"""URLs that name an SQLite file."""

__all__ = ("path_in",)


def path_in(url: str) -> str:
    """Return the path in `sqlite:///relative/file.db` or `sqlite:////absolute/file.db`.

    Raises:
        ValueError: it names no file, or more than one.
    """
    rest = url.removeprefix("sqlite://")
    if rest == url or not rest.startswith("/") or rest == "/":
        raise ValueError(f"{url!r} names no file: three slashes and a relative path, or four and an absolute one")
    if "?" in rest or "#" in rest:
        raise ValueError(f"{url!r}: a sqlite URL takes no options and no fragment, only the path of a file")
    return rest[1:]
