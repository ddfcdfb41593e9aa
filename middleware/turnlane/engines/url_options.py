"""What URLs of lanes say beside the place: options of the engine, which stores at the same place do not know."""

from collections.abc import Collection
from urllib.parse import parse_qsl

__all__ = ("seconds_in", "split_options")


def split_options(url: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return a URL without the options of these names, and what they are.

    Raises:
        ValueError: one of them is there twice. The message does not repeat the URL, which may hold a password.
    """
    place, _, query = url.partition("?")
    others: list[str] = []
    found: dict[str, str] = {}
    for part in query.split("&"):
        for name, value in parse_qsl(part, keep_blank_values=True) or [("", "")]:
            if name not in names:
                others.append(part)
            elif name in found:
                raise ValueError(f"the URL of these lanes says {name!r} twice")
            else:
                found[name] = value
    rest = "&".join(others)
    return f"{place}?{rest}" if rest else place, found


def seconds_in(text: str, name: str) -> float:
    """Return the number an option is.

    Raises:
        ValueError: it is none. The message does not show it: the password of a URL that is written wrong may end there.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds in the URL of lanes too") from None
