"""What URLs name a Redis, and that they keep their passwords."""

import pytest

from turnlane.redis import Address, address_in

SECRET = "s3cret/@:?"
QUOTED = "s3cret%2F%40%3A%3F"


@pytest.mark.parametrize(
    ("url", "address", "where"),
    [
        ("redis://h", Address(kind="server", hosts=(("h", 6379),)), "redis://h:6379/0"),
        ("redis://h:1/", Address(kind="server", hosts=(("h", 1),)), "redis://h:1/0"),
        ("redis://h:1/7", Address(kind="server", hosts=(("h", 1),), database=7), "redis://h:1/7"),
        ("redis://[::1]:1", Address(kind="server", hosts=(("::1", 1),)), "redis://[::1]:1/0"),
        ("redis://[::1]", Address(kind="server", hosts=(("::1", 6379),)), "redis://[::1]:6379/0"),
        (
            f"rediss://me:{QUOTED}@h/2?prefix=a%20b&ssl_ca_certs=ca.pem",
            Address(
                kind="server",
                tls=True,
                hosts=(("h", 6379),),
                database=2,
                username="me",
                password=SECRET,
                prefix="a b",
                options=(("ssl_ca_certs", "ca.pem"),),
            ),
            "rediss://h:6379/2?prefix=a b",
        ),
        (
            f"redis+sentinel://:{QUOTED}@a:1,b/main/3",
            Address(kind="sentinel", hosts=(("a", 1), ("b", 26379)), service="main", database=3, password=SECRET),
            "redis+sentinel://a:1,b:26379/main/3",
        ),
        ("rediss+sentinel://a/x", Address(kind="sentinel", tls=True, hosts=(("a", 26379),), service="x"), None),
        (
            "redis+unix:///run/r.sock",
            Address(kind="socket", hosts=(("/run/r.sock", 0),)),
            "redis+unix:///run/r.sock?db=0",
        ),
        (
            f"redis+unix://me:{QUOTED}@/run/a%20b?db=3&prefix=p",
            Address(kind="socket", hosts=(("/run/a b", 0),), database=3, username="me", password=SECRET, prefix="p"),
            "redis+unix:///run/a b?db=3&prefix=p",
        ),
        ("redis+cluster://a:1,b", Address(kind="cluster", hosts=(("a", 1), ("b", 6379))), "redis+cluster://a:1,b:6379"),
    ],
)
def test_a_url_is_taken_apart(url: str, address: Address, where: str | None) -> None:
    """Hosts, service, database, user, password and options; `where` and `repr` keep the secrets."""
    found = address_in(url)
    assert found == address
    assert (found.username, found.password) == (address.username, address.password)
    assert where is None or found.where == where
    assert "s3cret" not in f"{found!r} {found.where}"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("redis:/h", "URL without"),
        ("http://:s3cret@h", "URL scheme 'http'"),
        ("redis://", "a host"),
        ("redis://:s3cret@", "a host"),
        ("redis://:s3cret@h:0", "a port from 1 to 65535"),
        ("redis://:s3cret@h:70000", "a port from 1 to 65535"),
        ("redis://s3cret@h", "a user and a password, or none"),
        ("redis://:s3cret@a,b", "names one host"),
        ("redis://:s3cret@h/main", "is a number"),
        ("redis://:s3cret@h/1#x", "no fragment"),
        ("redis://:s3cret@h?timeout=1", "takes the options prefix, not timeout"),
        ("redis://:s3cret@h?ssl_ca_certs=x", "not ssl_ca_certs"),
        ("redis://:s3cret@h?prefix={x}", "without braces"),
        ("redis://:s3cret@h?prefix=", "of 1 to 128 bytes"),
        ("redis+sentinel://:s3cret@h", "names the service"),
        ("redis+sentinel://:s3cret@h/main/x", "is a number"),
        ("redis+cluster://:s3cret@h/1", "no databases"),
        ("redis+unix://:s3cret@h/run/r", "by its whole path"),
        ("redis+unix://:s3cret@", "by its whole path"),
        ("redis+unix://:s3cret@/run/r?db=x", "is a number"),
        ("redis://:s3cret@h?db=1", "takes the options prefix, not db"),
    ],
)
def test_a_url_of_another_form_is_refused(url: str, hint: str) -> None:
    """The message says what is wrong, and never the password."""
    with pytest.raises(ValueError, match=hint) as caught:
        address_in(url)
    assert "s3cret" not in str(caught.value)
