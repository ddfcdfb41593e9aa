"""Lanes: the FIFO line of turns of each session key."""

from turnlane.lanes.lanes import Lanes
from turnlane.lanes.snapshots import LaneSnapshot, LanesStatistics, TurnSnapshot

__all__ = ("LaneSnapshot", "Lanes", "LanesStatistics", "TurnSnapshot")
