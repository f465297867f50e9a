"""CND and the stop in anybody's training: a watcher, a stopper, and a module for each trainer."""

from .stopper import Stopper
from .watching import SIGNALS, Watcher, watch

__all__ = ["SIGNALS", "Stopper", "Watcher", "watch"]
