"""Turns: what runs in a lane, and how code finds out which turn it runs in."""

from turnlane.turns.context import current_turn
from turnlane.turns.turn import Turn, TurnState

__all__ = ("Turn", "TurnState", "current_turn")
