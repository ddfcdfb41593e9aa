"""Turns for code in threads: they are in the event loop the lanes live in, and the thread stays inside."""

from turnlane_integrations._blocking.blocking import Blocking
from turnlane_integrations._blocking.own_loop import loop_here
from turnlane_integrations._blocking.stay import Stay

__all__ = ("Blocking", "Stay", "loop_here")
