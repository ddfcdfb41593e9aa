"""How much may run and wait at once, checked where it is given."""

from dataclasses import dataclass

from turnlane.arguments import optional_count

__all__ = ("Limits",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The caps of one `Lanes`, each None where there is none; see there.

    Raises:
        ValueError: one is no whole number of at least 1.
    """

    max_running: int | None = None
    max_running_per_principal: int | None = None
    max_waiting_per_principal: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            optional_count(name, getattr(self, name), least=1)

    @property
    def running_is_limited(self) -> bool:
        """Whether a turn may have to wait although its lane is free."""
        return self.max_running is not None or self.max_running_per_principal is not None

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return self.running_is_limited or self.max_waiting_per_principal is not None

    @property
    def principals_matter(self) -> bool:
        """Whether it counts who a turn is for."""
        return self.max_running_per_principal is not None or self.max_waiting_per_principal is not None
