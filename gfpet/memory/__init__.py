"""The one measuring loop: time, live tensor bytes, RSS and CUDA memory of a phase."""

from __future__ import annotations

from gfpet.memory._live import LiveStorages, Resident
from gfpet.memory._measure import MemoryReading, Meter, measure

__all__ = ["LiveStorages", "MemoryReading", "Meter", "Resident", "measure"]
