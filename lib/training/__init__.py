"""Training to the end while every signal is recorded."""

from lib.training.experiment import Recording, run
from lib.training.loop import Training

__all__ = ["Recording", "Training", "run"]
