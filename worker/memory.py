"""Telling that memory ran out, and giving it back, without importing torch here."""

import sys


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means "too large", on the host or on the device.

    torch's class is recognised by name, so that the worker's logic and its tests need no torch; its CPU allocator
    raises a plain RuntimeError.
    """
    if isinstance(error, MemoryError) or any(c.__name__ == "OutOfMemoryError" for c in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def release() -> None:
    """Hand cached device memory back (Project-MONAI/MONAILabel#1397)."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_bytes() -> int:
    """Device memory reserved by this process; 0 without CUDA."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.memory_reserved()) if torch is not None and torch.cuda.is_available() else 0
