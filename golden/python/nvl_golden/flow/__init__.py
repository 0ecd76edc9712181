"""Data flow: what each recorded tensor was computed from, found out while a model runs."""

from .mode import Follower
from .trace import Flow

__all__ = ["Flow", "Follower"]
