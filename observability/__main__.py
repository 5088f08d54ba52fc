"""``python -m observability``: write the rendered files; ``... panels``: draw the dashboard as a picture."""

import argparse
import json
import sys
import time
from pathlib import Path

from observability.panels import Window, picture
from observability.render import FOLDER, rendered


def panels(arguments: argparse.Namespace) -> None:
    """Draw the dashboard from a running Prometheus."""
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    now = time.time()
    window = Window(now - 60 * arguments.minutes, now)
    shown = picture(board, arguments.prometheus, window, arguments.output)
    empty = [title for title, count in shown.items() if count == 0]
    sys.stdout.write(f"{arguments.output}: {len(shown) - len(empty)} of {len(shown)} panels have data\n")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m observability", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    draw = commands.add_parser("panels", help="the dashboard as a picture, without Grafana")
    draw.add_argument("--prometheus", required=True, help="e.g. http://127.0.0.1:9090")
    draw.add_argument("--output", type=Path, required=True, help="PNG file")
    draw.add_argument("--minutes", type=float, default=15.0, help="how far back")
    arguments = parser.parse_args()
    if arguments.command == "panels":
        try:
            panels(arguments)
        except RuntimeError as error:
            sys.exit(f"error: {error}")
        return
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
