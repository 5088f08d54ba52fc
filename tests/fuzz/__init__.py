"""Damaged files by the thousand (``python -m tests.fuzz.run``)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the builders, when this runs as a program
