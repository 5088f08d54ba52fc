"""The audit trail: who did what with which model, as append-only JSON lines that tell when somebody altered them."""

from reacquire.trail.chain import Broken, Trail, verify_file
from reacquire.trail.events import Event, instance_mark

__all__ = ["Broken", "Event", "Trail", "instance_mark", "verify_file"]
