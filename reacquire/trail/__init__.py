"""The audit trail: who did what with which model, as append-only JSON lines that tell when somebody altered them."""

from reacquire.trail.chain import Trail
from reacquire.trail.events import Event, instance_mark
from reacquire.trail.verify import Broken, check_file, verify_folder

__all__ = ["Broken", "Event", "Trail", "check_file", "instance_mark", "verify_folder"]
