"""URLs that name a Redis server, a master that Sentinels know, or a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

__all__ = ("FORMS", "SCHEMES", "Address", "address_in", "checked_prefix", "is_redis")

FORMS = (
    "redis://host:port/db, redis+unix:///path?db=0, redis+sentinel://host:port,host:port/service/db, "
    "redis+cluster://host:port,host:port"
)

Kind = Literal["server", "socket", "sentinel", "cluster"]

SCHEMES: Final[Mapping[str, tuple[Kind, bool]]] = MappingProxyType(
    {
        "redis": ("server", False),
        "rediss": ("server", True),
        "redis+unix": ("socket", False),
        "redis+sentinel": ("sentinel", False),
        "rediss+sentinel": ("sentinel", True),
        "redis+cluster": ("cluster", False),
        "rediss+cluster": ("cluster", True),
    }
)
"""What each scheme leads to, and whether by TLS."""

PORTS: Final[Mapping[str, int]] = MappingProxyType({"server": 6379, "sentinel": 26379, "cluster": 6379, "socket": 0})
LONGEST_PREFIX = 128
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL says. Its `repr` and `where` hold neither user nor password.

    Attributes:
        kind: what the hosts are: one server, its socket in the file system, Sentinels, or some nodes of a cluster.
        tls: whether connections are encrypted; certificates and host names are then always checked.
        hosts: host names and ports, at least one; of a socket its path and 0.
        service: the name Sentinels know the master by, empty elsewhere.
        database: its number.
        username: None for the default user.
        password: None for no authentication. Sentinels are asked without one.
        prefix: of all keys, None where the URL does not say.
        options: names and paths of TLS files.
    """

    kind: Kind
    tls: bool = False
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    prefix: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def where(self) -> str:
        """The URL without user, password and TLS files, for errors and logs."""
        scheme = next(name for name, what in SCHEMES.items() if what == (self.kind, self.tls))
        options = [] if self.prefix is None else [f"prefix={self.prefix}"]
        if self.kind == "socket":
            options = [f"db={self.database}", *options]
            place = self.hosts[0][0]
        else:
            paths = {"server": f"/{self.database}", "sentinel": f"/{self.service}/{self.database}", "cluster": ""}
            hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
            place = ",".join(hosts) + paths[self.kind]
        return f"{scheme}://{place}{'?' if options else ''}{'&'.join(options)}"


def is_redis(scheme: str) -> bool:
    """Tell whether URLs with this scheme are read by `address_in`."""
    return scheme in SCHEMES


def address_in(url: str) -> Address:
    """Return what a URL names.

    `redis://[[user]:password@]host[:port][/database]`, `redis+sentinel://host:port,host:port/service[/database]`,
    `redis+cluster://host:port,host:port`, and each with `rediss` for TLS; `redis+unix://[[user]:password@]/path` for a
    socket. User, password and path are percent-encoded. After a `?`: `prefix` of all keys, for TLS `ssl_ca_certs`,
    `ssl_certfile`, `ssl_keyfile`, and for a socket `db`.

    Raises:
        ValueError: it is not of that form. The message does not repeat the URL, which may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known_by = f"the URL scheme {scheme!r}" if separator else "a URL without ://"  # it may hold a password
        raise ValueError(f"no Redis is known by {known_by}; there are: {FORMS}")
    kind, tls = SCHEMES[scheme]
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    username, colon, password = credentials.partition(":")
    if "#" in url or (at and not colon):
        raise ValueError(f"a {scheme} URL has a user and a password, or none, and no fragment: {FORMS}")
    options = _options(scheme, kind, query, tls)
    if kind == "socket":
        service, database = "", _number(scheme, options.pop("db", ""))
        places: tuple[tuple[str, int], ...] = (_socket(scheme, hosts, path),)
    else:
        service, database = _path(scheme, kind, path)
        places = _hosts(scheme, kind, hosts)
    return Address(
        kind=kind,
        tls=tls,
        hosts=places,
        service=service,
        database=database,
        username=unquote(username) or None,
        password=unquote(password) or None,
        prefix=checked_prefix(options.pop("prefix")) if "prefix" in options else None,
        options=tuple(options.items()),
    )


def checked_prefix(prefix: object) -> str:
    """Return `prefix` if all keys of a store can begin with it.

    Raises:
        ValueError: it is not printable text of 1 to 128 bytes, or holds a brace, which would end a hash tag.
    """
    printable = isinstance(prefix, str) and prefix.isprintable() and not set(prefix) & set("{}")
    if not printable or not 0 < len(str(prefix).encode()) <= LONGEST_PREFIX:
        raise ValueError(f"a prefix is printable text of 1 to {LONGEST_PREFIX} bytes without braces, not {prefix!r}")
    return str(prefix)


def _hosts(scheme: str, kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    hosts = tuple(_host(scheme, part, PORTS[kind]) for part in text.split(","))
    if kind == "server" and len(hosts) > 1:
        raise ValueError(f"a {scheme} URL names one host; several are Sentinels or nodes of a cluster: {FORMS}")
    return hosts


def _host(scheme: str, text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"a host of a {scheme} URL is a name and a port from 1 to 65535: {FORMS}")
    return host, int(port or default)


def _path(scheme: str, kind: Kind, path: str) -> tuple[str, int]:
    service, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    if kind == "sentinel" and not service:
        raise ValueError(f"a {scheme} URL names the service that the Sentinels know: {FORMS}")
    if kind == "cluster" and database:
        raise ValueError(f"a {scheme} URL ends after its hosts, a cluster has no databases: {FORMS}")
    return unquote(service), _number(scheme, database)


def _number(scheme: str, database: str) -> int:
    if database and not (database.isascii() and database.isdecimal()):
        raise ValueError(f"the database of a {scheme} URL is a number: {FORMS}")
    return int(database or 0)


def _socket(scheme: str, host: str, path: str) -> tuple[str, int]:
    if host or not path:
        raise ValueError(f"a {scheme} URL names a socket by its whole path, and no host: {FORMS}")
    return f"/{unquote(path)}", 0


def _options(scheme: str, kind: Kind, query: str, tls: bool) -> dict[str, str]:
    known = ("prefix", *(TLS_OPTIONS if tls else ()), *(("db",) if kind == "socket" else ()))
    options = dict(parse_qsl(query, keep_blank_values=True))
    if strange := sorted(set(options) - set(known)):
        # what follows a question mark in a password that is not percent-encoded is none, and not shown
        shown = f", not {', '.join(strange)}" if all(map(str.isidentifier, strange)) else ""
        raise ValueError(f"a {scheme} URL takes the options {', '.join(known)}{shown}")
    return options
