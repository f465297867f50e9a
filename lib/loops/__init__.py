"""CND and the stop in anybody's training: a watcher, a stopper, and a module for each trainer."""

from ..batches import Indexed
from .stopper import Stopper
from .watching import SIGNALS, Watcher, watch

__all__ = ["SIGNALS", "Indexed", "Stopper", "Watcher", "watch"]
