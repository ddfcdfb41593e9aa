"""Notes from worker to worker: one datagram each, on a socket that has its worker's name."""

import asyncio
import errno
import json
import os
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from types import MappingProxyType
from typing import Any, cast

from turnlane.engines.base import Carried, Draining, Granted, Interrupted, Lost, Offered, Over, Told

__all__ = ("Letters", "letter_of", "note_in")

LONGEST = 32 * 1024  # bytes; a longer note is fetched
LONGEST_DIRECTORY = 70  # bytes of its path
TRIES, PAUSE = 2000, 0.001
PLAIN = b"+"  # begins the letter of a plain grant, which every hand-over sends: token, length of the ticket, both names

_CLASSES: Mapping[str, type[Any]] = MappingProxyType(
    {cls.__name__: cls for cls in (Granted, Over, Interrupted, Offered, Lost, Draining)}
)
_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(each.name for each in fields(cls)) for name, cls in _CLASSES.items()}
)


class Letters:
    """The socket of one worker.

    Mutable: `_socket`, None once it is closed; `_descriptor` of the directory, where its path is too long.

    Args:
        directory: where the sockets are.
        worker: its name.
        heard: called with what was received.
    """

    def __init__(self, directory: str, worker: str, heard: Callable[[bytes], None]) -> None:
        self._heard = heard
        self._path = os.path.join(directory, f"{worker}.sock")
        self._loop = asyncio.get_running_loop()
        self._descriptor: int | None = None
        self._directory = self._short(directory)
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(os.path.join(self._directory, f"{worker}.sock"))
            self._loop.add_reader(self._socket, self._read)
        except BaseException:
            self._socket.close()
            self._close_directory()
            raise

    def _short(self, directory: str) -> str:
        """Return a name of the directory that leaves room for a socket's, which may have some hundred bytes in all."""
        if len(os.fsencode(directory)) <= LONGEST_DIRECTORY or not os.path.isdir("/proc/self/fd"):
            return directory
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}"

    def _close_directory(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def send(self, worker: str, letter: bytes, *, gone: Callable[[str], None], tries: int = TRIES) -> None:
        """Send something; call `gone` where nobody has that socket open. A full one is tried again for a while."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(letter, os.path.join(self._directory, f"{worker}.sock"))
        except (ConnectionRefusedError, FileNotFoundError):
            gone(worker)
        except (BlockingIOError, InterruptedError):
            self._again(worker, letter, gone, tries)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._again(worker, letter, gone, tries)

    def _again(self, worker: str, letter: bytes, gone: Callable[[str], None], tries: int) -> None:
        if tries:  # whoever does not read finds out by itself, when it renews its tickets
            self._loop.call_later(PAUSE, lambda: self.send(worker, letter, gone=gone, tries=tries - 1))

    def _read(self) -> None:
        while self._socket is not None:
            try:
                letter = self._socket.recv(2 * LONGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return
            self._heard(letter)

    def close(self) -> None:
        """Receive nothing any more."""
        if self._socket is None:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._close_directory()
        with suppress(OSError):
            os.unlink(self._path)

    def close_in_child(self) -> None:
        """Close it in a forked process, whose loop is its parent's still."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._close_directory()


def letter_of(note: Told) -> bytes:
    """Return a note as a datagram; of one that is too long, where it is to be looked for."""
    if isinstance(note, Granted) and not (note.owes or note.carried or note.dropped):
        ticket, key = _bytes_of(note.ticket), _bytes_of(note.key)
        if len(ticket) + len(key) <= LONGEST:
            return b"%b%d %d %b%b" % (PLAIN, note.token, len(ticket), ticket, key)
    name = type(note).__name__
    letter = json.dumps([name, *[_packed(getattr(note, each)) for each in _FIELDS[name]]]).encode()
    if isinstance(note, Draining) or len(letter) <= LONGEST:
        return letter
    return json.dumps(["Look", note.key, note.ticket]).encode()


def note_in(letter: bytes) -> Told | tuple[str, str] | None:
    """Return the note of a datagram, or the key and ticket it is to be looked for by; None for what is no letter."""
    try:
        if letter.startswith(PLAIN):
            token, length, names = letter[1:].split(b" ", 2)
            end = int(length)
            return Granted(_text_of(names[end:]), _text_of(names[:end]), int(token))
        kind, *values = json.loads(letter)
        if kind == "Look":
            key, ticket = values
            return str(key), str(ticket)
        found: Told = _CLASSES[kind](*(_unpacked(value) for value in values))
    except (ValueError, TypeError, KeyError):
        return None
    return found


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text_of(found: bytes) -> str:
    return found.decode("utf-8", "surrogatepass")


def _packed(value: Any) -> Any:
    if isinstance(value, str | int | float) or value == ():
        return value
    if isinstance(value, bytes):
        return {"b": b64encode(value).decode()}
    if isinstance(value, Carried):
        return {"c": [value.ticket, b64encode(value.payload).decode()]}
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)  # type: ignore[redundant-cast]  # the other checker needs it
        return [_packed(each) for each in items]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, str | int | float):
        return value
    match value:
        case {"b": text}:
            return b64decode(text)
        case {"c": [ticket, text]}:
            return Carried(ticket, b64decode(text))
        case list():
            items = cast("list[Any]", value)  # type: ignore[redundant-cast]  # the other checker needs it
            return tuple(_unpacked(each) for each in items)
        case _:
            return value
