"""Closed-form physics of a spoiled gradient echo, and the tissues it is seen in: no anatomy, no scanner, no network.

NumPy only. The phantom simulates with it, and the direct editor is told what it says.
"""

from reacquire.physics import signal, tissue

__all__ = ["signal", "tissue"]
