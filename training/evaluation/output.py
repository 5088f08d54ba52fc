"""The files of a report: written together at the end, never over an earlier report.

``report.json`` comes last: whoever finds it takes the report for finished. While the files are written a mark lies
beside them, so that a run that was killed then is told from files that somebody may need.
"""

from collections.abc import Mapping
from pathlib import Path

from training.evaluation.reader import KEY, PAGE
from training.ingest.manifest import replace_file
from training.ingest.problem import IngestError

HTML, JSON = "report.html", "report.json"
MARK = ".report.unfinished"
ORDER = (PAGE, KEY, HTML, JSON)


def open_output(folder: Path) -> None:
    """Make the folder, unless it holds a report or the key of a reader study, whole or in part.

    Raises
    ------
    ValueError
        Naming the file that is there and the remedy.
    """
    broken_off = (folder / MARK).exists() and not (folder / JSON).exists()
    for name in (JSON, HTML, KEY):
        if (folder / name).exists() and not broken_off:
            raise ValueError(
                f"{folder / name} exists and nothing is overwritten; name a new folder with --output, or move the "
                "earlier report away"
            )
    folder.mkdir(parents=True, exist_ok=True)


def write_output(folder: Path, files: Mapping[str, str]) -> None:
    """Write files of ``ORDER`` into a folder that ``open_output`` made, each whole or not at all.

    Raises
    ------
    OSError
        Naming the file that could not be written; the same call completes the folder.
    """
    (folder / MARK).touch()
    for name in sorted(files, key=ORDER.index):
        try:
            replace_file(folder / name, files[name].encode())
        except IngestError as error:
            raise OSError(
                f"{folder / name} could not be written ({error.__cause__}); put that right and give the same command "
                "again"
            ) from error
    (folder / MARK).unlink()
