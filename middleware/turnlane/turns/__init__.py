"""Turns: what runs in a lane, and how code finds out which turn it runs in."""

from turnlane.turns.turn import Turn, TurnState, current_turn

__all__ = ("Turn", "TurnState", "current_turn")
