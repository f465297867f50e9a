"""Training to the end while every signal is recorded."""

from lib.training.loop import run

__all__ = ["run"]
