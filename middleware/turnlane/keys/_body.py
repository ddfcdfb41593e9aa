"""Extractors that read the body: JSON and forms."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import cast

from turnlane.errors import NotConfigured, SessionKeyInvalid
from turnlane.keys._contract import BodyExtractor, Scope
from turnlane.keys._scope import MAX_FIELDS, content_type, require_text, single, urlencoded_values

__all__ = ("JsonExtractor", "form_field", "json_body", "json_paths", "load_json")

MAX_PART_BYTES = 4096
JSON_KINDS: Mapping[type, str] = MappingProxyType(
    {bool: "true or false", float: "a number with a fraction", dict: "an object", list: "an array"}
)


@dataclass(frozen=True, slots=True)
class JsonExtractor(BodyExtractor):
    """See `json_body`; with several `paths` the first that leads to a value counts."""

    paths: tuple[tuple[str, ...], ...]
    param: str

    def parse(self, scope: Scope, body: bytes) -> str | None:
        """Return the value in the JSON body."""
        return self.find(load_json(body, self.param))

    def find(self, document: object) -> str | None:
        """Return the value in a document that was parsed before."""
        for position, steps in enumerate(self.paths):
            value = _follow(document, steps)
            deeper = any(later[: len(steps)] == steps for later in self.paths[position + 1 :])
            found = None if deeper and type(value) is dict else _as_key(value, self.param)
            if found is not None and found.strip():
                return found
        return None


@dataclass(frozen=True, slots=True)
class FormExtractor(BodyExtractor):
    """See `form_field`."""

    name: str
    param: str

    def parse(self, scope: Scope, body: bytes) -> str | None:
        """Return the value of the form field."""
        kind = content_type(scope)
        media_type = kind.split(b";", 1)[0].strip(b" \t").lower()
        if media_type == b"application/x-www-form-urlencoded":
            return single(urlencoded_values(body, self.name, self.param), self.param)
        if media_type == b"multipart/form-data":
            return single(_multipart_values(kind, body, self.name, self.param), self.param)
        return None


def json_body(path: str) -> BodyExtractor:
    """Take the session key from the JSON body: `json_body("metadata.session_id")`.

    Dots lead through objects, and numbers into arrays. Text and whole numbers are accepted. A body that is not
    JSON, or has nothing at the path, names no session: what the app wants instead, it will say itself.

    Not possible: object members whose own name has a dot in it.

    Args:
        path: the names on the way to the value, joined with dots.

    Raises:
        ValueError: a name on the path is blank.
    """
    return json_paths(path)


def json_paths(*paths: str) -> JsonExtractor:
    """Take the session key from the first of several paths that leads to a value.

    An object is passed over where a later path leads further into it.
    """
    for path in paths:
        require_text(path)
        if not all(step.strip() for step in path.split(".")):
            raise ValueError(f"a path into a JSON body needs names joined with dots, not {path!r}")
    return JsonExtractor(tuple(tuple(path.split(".")) for path in paths), f"{' or '.join(paths)} in the JSON body")


def form_field(name: str) -> BodyExtractor:
    """Take the session key from the field `name` of a form, urlencoded or multipart.

    The same field twice with different values is refused, and so are a file in its place and a form of over 1000
    fields. A body that is no form, or a broken one, names no session: the app will refuse it itself.

    Raises:
        ValueError: `name` is blank.
        NotConfigured: the package that reads multipart forms is not installed.
    """
    require_text(name)
    if not name.strip():
        raise ValueError("the name of a form field must not be blank")
    try:
        import_module("python_multipart")
    except ImportError as error:
        raise NotConfigured("keys.form_field needs a parser of forms: pip install 'turnlane[forms]'") from error
    return FormExtractor(name, f"form field {name}")


def load_json(body: bytes, param: str) -> object:
    """Return the document in `body`, or None if it is not JSON.

    Raises:
        SessionKeyInvalid: it may be JSON that others can read, but is nested too deep or has too long a number.
    """
    try:
        return cast("object", json.loads(body))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    except RecursionError:
        raise SessionKeyInvalid(param, reason="the JSON around it is nested too deep") from None
    except ValueError:
        raise SessionKeyInvalid(param, reason="the JSON around it has a number of too many digits") from None


def _follow(document: object, steps: tuple[str, ...]) -> object:
    value = document
    for step in steps:
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(step)
        elif isinstance(value, list) and step.isascii() and step.isdecimal() and len(step) < 10:
            items = cast("list[object]", value)
            value = items[int(step)] if int(step) < len(items) else None
        else:
            return None
    return value


def _as_key(value: object, param: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise SessionKeyInvalid(param, reason=f"it is {JSON_KINDS[type(value)]}, not text")


class _Fields:
    """Collects the values of one field while a multipart body is parsed."""

    def __init__(self, name: bytes, param: str) -> None:
        from python_multipart.multipart import parse_options_header

        self.values: list[bytes] = []
        self._name = name
        self._param = param
        self._parse_options_header = parse_options_header
        self._parts = 0
        self._wanted = self._is_file = False
        self._header_name = b""
        self._header_value = b""
        self._value = b""

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise SessionKeyInvalid(self._param, reason=f"there are more than {MAX_FIELDS} fields")
        self._wanted = self._is_file = False
        self._header_name = self._header_value = self._value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = self._parse_options_header(self._header_value)
            self._wanted = options.get(b"name") == self._name
            self._is_file = b"filename" in options
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        if self._wanted and self._is_file:
            raise SessionKeyInvalid(self._param, reason="it is a file, not text")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._value += data[start:end]
            if len(self._value) > MAX_PART_BYTES:
                raise SessionKeyInvalid(self._param, reason=f"the field is longer than {MAX_PART_BYTES} bytes")

    def on_part_end(self) -> None:
        if self._wanted:
            self.values.append(self._value)


def _multipart_values(kind: bytes, body: bytes, name: str, param: str) -> Iterator[str]:
    from python_multipart.multipart import MultipartParser, parse_options_header

    try:
        _, options = parse_options_header(kind)
    except ValueError:
        return
    boundary = options.get(b"boundary")
    if not boundary:
        return
    fields = _Fields(name.encode(), param)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": fields.on_part_begin,
                "on_header_field": fields.on_header_field,
                "on_header_value": fields.on_header_value,
                "on_header_end": fields.on_header_end,
                "on_headers_finished": fields.on_headers_finished,
                "on_part_data": fields.on_part_data,
                "on_part_end": fields.on_part_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except SessionKeyInvalid:
        raise
    except ValueError:  # a FormParserError is one too
        return
    for value in fields.values:
        yield value.decode("utf-8", "surrogateescape")
