"""URLs that name a PostgreSQL database."""

import re
from dataclasses import dataclass, field
from urllib import parse

__all__ = ("Address", "address_in", "is_postgresql")

SCHEMES = ("postgresql", "postgres")
DEFAULT_SCHEMA = "turnlane"
OPTIONS = (
    *("host", "port", "user", "password", "passfile", "dbname", "database", "application_name"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "target_session_attrs"),
)
SHOWN = ("host", "port", "dbname", "database")
HOSTS = re.compile(
    r"(?:(?:\[[0-9a-fA-F:.%]+\]|[\w.%-]*)(?::[0-9]{1,5})?)(?:,(?:\[[0-9a-fA-F:.%]+\]|[\w.%-]*)(?::[0-9]{1,5})?)*"
)
NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a database is.

    Attributes:
        dsn: what the driver connects to; it may hold a password.
        where: the same without anything secret, for errors and logs.
        schema: in which all tables are.
    """

    dsn: str = field(repr=False)
    where: str
    schema: str


def is_postgresql(url: str) -> bool:
    """Tell whether a URL is for this package."""
    return url.partition("://")[0] in SCHEMES and "://" in url


def address_in(url: str) -> Address:
    """Return the address in `postgresql://user:password@host:port/database?schema=turnlane`.

    Messages never show the URL: it may hold a password, also where it can not be understood.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = parse.urlsplit(url)
        options = parse.parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("a postgresql:// URL can not be understood; percent-encode its password") from None
    user_info, _, hosts = parts.netloc.rpartition("@")
    # The driver takes the first @ for the end of the password, and would look for a host in the rest of it.
    if parts.scheme not in SCHEMES or parts.fragment or "@" in user_info + parts.path or not HOSTS.fullmatch(hosts):
        raise ValueError(
            "a postgresql:// URL has the form postgresql://user:password@host:port/database; "
            "what is special in a user, a password or a name is percent-encoded"
        )
    unknown = sorted({name for name, _ in options} - {*OPTIONS, "schema"})
    if unknown:
        raise ValueError(f"a postgresql:// URL does not know {unknown[0]!r}; there are: schema, {', '.join(OPTIONS)}")
    schema = dict(options).get("schema", DEFAULT_SCHEMA)
    if not NAME.fullmatch(schema):
        raise ValueError(f"schema must be a name of a-z, 0-9 and _ of at most 63 characters, not {schema!r}")
    kept = [(name, value) for name, value in options if name != "schema"]
    shown = [(name, value) for name, value in options if name in SHOWN]
    if schema != DEFAULT_SCHEMA:
        shown.append(("schema", schema))
    user = user_info.partition(":")[0]
    place = f"postgresql://{user}{'@' if user else ''}{hosts}{parts.path}"
    return Address(
        dsn=parse.urlunsplit(("postgresql", parts.netloc, parts.path, parse.urlencode(kept), "")),
        where=f"{place}?{parse.urlencode(shown, safe='/')}" if shown else place,
        schema=schema,
    )
