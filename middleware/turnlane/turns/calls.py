"""What a turn function is called with: the key among its arguments, and the turn it may ask for."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from turnlane.errors import SessionKeyInvalid, SessionKeyRequired
from turnlane.keys import canonical
from turnlane.turns.turn import Turn

__all__ = ("Call", "TurnFunction")

TURN = "turn"

KeySource = str | Callable[..., Any]


class TurnFunction:
    """A function whose calls are turns: its signature, and where the key of a call is found.

    Args:
        function: a coroutine function or an async generator function.
        key: the name of the argument that holds the session key, or a callable.
        session_id: the same for an explicit session id, or None.
        principal: the same for whom a call is made, or None.

    Raises:
        TypeError: `function` is neither kind.
        ValueError: it has no argument of that name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        key: KeySource,
        session_id: KeySource | None,
        principal: KeySource | None = None,
    ) -> None:
        if isinstance(function, staticmethod | classmethod):
            raise TypeError("agent_turn goes below @staticmethod and @classmethod, next to the function itself")
        self.function: Callable[..., Any] = function
        self.is_generator: bool = inspect.isasyncgenfunction(function)
        self.name: str = getattr(function, "__qualname__", repr(function))
        if not self.is_generator and not inspect.iscoroutinefunction(function):
            raise TypeError(f"agent_turn needs an async function or an async generator function, not {function!r}")
        self._whole = _signature(function)
        self._takes_turn = TURN in self._whole.parameters
        if self._takes_turn and self._whole.parameters[TURN].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise TypeError(f"{self.name} must take `turn` by keyword")
        visible = [parameter for name, parameter in self._whole.parameters.items() if name != TURN]
        self.signature: inspect.Signature = self._whole.replace(parameters=visible)
        self._key = self._finder("key", key)
        self._session_id = None if session_id is None else self._finder("session_id", session_id)
        self._principal = None if principal is None else self._finder("principal", principal)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Call":
        """Return one call.

        Raises:
            TypeError: the arguments do not fit the function, or hold a `turn`, which the lane gives.
        """
        if self._takes_turn and TURN in kwargs:
            raise TypeError(f"{self.name}() got an unexpected keyword argument 'turn': its lane gives it")
        try:
            return Call(self, self.signature.bind(*args, **kwargs))
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None

    def run(self, bound: inspect.BoundArguments, turn: object) -> Any:
        """Call the function itself, with its turn if it asks for one."""
        if self._takes_turn:
            # Python puts each argument where it belongs, wherever `turn` stands among them.
            bound = inspect.BoundArguments(self._whole, type(bound.arguments)({**bound.arguments, TURN: turn}))
        return self.function(*bound.args, **bound.kwargs)

    async def find(self, finder: Callable[[inspect.BoundArguments], Any], bound: inspect.BoundArguments) -> object:
        """Return what a finder says of a call, waiting for it if it is async."""
        found = finder(bound)
        return await found if inspect.isawaitable(found) else found

    async def key_of(self, bound: inspect.BoundArguments) -> str:
        """Return the canonical session key of a call.

        Raises:
            SessionKeyRequired: it is None or blank.
            SessionKeyInvalid: it is not text, or not a key.
        """
        found = _text(await self.find(self._key, bound), f"key of {self.name}")
        if found is None:
            raise SessionKeyRequired(f"key of {self.name}")
        return found

    async def session_id_of(self, bound: inspect.BoundArguments) -> str | None:
        """Return the explicit session id of a call, or None."""
        if self._session_id is None:
            return None
        return _text(await self.find(self._session_id, bound), f"session_id of {self.name}")

    async def principal_of(self, bound: inspect.BoundArguments) -> str | None:
        """Return whom a call is made for, or None.

        Raises:
            TypeError: it is not text.
        """
        found = None if self._principal is None else await self.find(self._principal, bound)
        if found is not None and not isinstance(found, str):
            raise TypeError(f"principal of {self.name} must be text or None, not {type(found).__name__}")
        return found

    def with_arguments(self, bound: inspect.BoundArguments, merged: object) -> inspect.BoundArguments:
        """Return a call with other arguments.

        Raises:
            TypeError: `merged` does not have the arguments of the function by name.
        """
        names = self.signature.parameters
        if not isinstance(merged, Mapping) or set(cast("Mapping[str, Any]", merged)) - set(names):
            raise TypeError(f"merge must return the arguments of {self.name} by name, not {merged!r}")
        found = cast("Mapping[str, Any]", merged)
        return inspect.BoundArguments(
            bound.signature, type(bound.arguments)({name: found[name] for name in names if name in found})
        )

    def _finder(self, what: str, source: KeySource) -> Callable[[inspect.BoundArguments], Any]:
        if callable(source):
            return partial(_ask, source)
        if source not in self.signature.parameters:
            names = ", ".join(self.signature.parameters) or "none"
            raise ValueError(f"{what}={source!r} names no argument of {self.name}; it has {names}")
        return partial(_pick, source, self.signature.parameters[source].default)


class Call:
    """One call of a turn function, not yet run."""

    __slots__ = ("_bound", "_function")

    def __init__(self, function: TurnFunction, bound: inspect.BoundArguments) -> None:
        self._function = function
        self._bound = bound

    async def key(self) -> str:
        """See `TurnFunction.key_of`."""
        return await self._function.key_of(self._bound)

    async def session_id(self) -> str | None:
        """See `TurnFunction.session_id_of`."""
        return await self._function.session_id_of(self._bound)

    async def principal(self) -> str | None:
        """See `TurnFunction.principal_of`."""
        return await self._function.principal_of(self._bound)

    @property
    def message(self) -> dict[str, Any]:
        """The arguments by name, with their defaults."""
        whole = inspect.BoundArguments(self._bound.signature, self._bound.arguments.copy())
        whole.apply_defaults()
        return dict(whole.arguments)

    def require(self, merged: object) -> None:
        """Check that the function can be called with what `merge` returned.

        Raises:
            TypeError: it can not.
        """
        bound = self._function.with_arguments(self._bound, merged)
        bound.signature.bind(*bound.args, **bound.kwargs)

    def run(self, turn: Turn) -> Any:
        """Call the function: an awaitable, or an async generator. Messages that were merged are its arguments."""
        bound = self._bound
        if len(turn.messages) > 1 and turn.message is not turn.messages[-1]:
            bound = self._function.with_arguments(bound, turn.message)
        return self._function.run(bound, turn)

    def run_inside(self, turn: Turn) -> Any:
        """Call the function inside a turn that others started, whose messages are not its arguments."""
        return self._function.run(self._bound, turn)


def _ask(source: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    whole = inspect.BoundArguments(bound.signature, bound.arguments.copy())
    whole.apply_defaults()
    return source(*whole.args, **whole.kwargs)


def _pick(name: str, default: Any, bound: inspect.BoundArguments) -> Any:
    return bound.arguments.get(name, default)


def _text(found: object, param: str) -> str | None:
    if found is None:
        return None
    if not isinstance(found, str):
        raise SessionKeyInvalid(param, reason=f"it is a {type(found).__name__}, not text")
    return canonical(found, param)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError):  # annotations that only type checkers can read
        return inspect.signature(function)
