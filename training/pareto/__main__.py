"""``python -m training.pareto``: ``run`` measures candidates, row by row; ``report`` turns rows into table and figure.

A row that is there is not measured again, so a run can be broken off, or shared by several processes with ``--only``.
"""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from reacquire.imaging import Preprocessing
from training.cache import open_cache
from training.pareto.candidates import candidates_of_denoiser, candidates_of_direct, load_judges
from training.pareto.measure import Judges, Reference
from training.pareto.pairs import draw_held_out, load_pairs, pairs_of_cache, real_anatomies, save_pairs, simulated_women
from training.pareto.report import figure, gap, table, undominated, write_json
from training.pareto.run import acquiring, doing_nothing, run_candidate
from training.progress import tracked

PAIRS = "pairs.safetensors"
app = typer.Typer(help="Compare ways of editing.", no_args_is_help=True)


@app.command()
def run(
    rows: Annotated[Path, typer.Argument(help="folder for one JSON file per candidate")],
    predictor: Annotated[Path, typer.Option(help="run folder of a judge")],
    segmenter: Annotated[Path, typer.Option(help="run folder of a judge")],
    denoiser: Annotated[list[str] | None, typer.Option(help="[NAME=]FOLDER of a trained denoiser's run")] = None,
    direct: Annotated[
        list[str] | None, typer.Option(help="[NAME=]FOLDER of a direct editor: a run, or a bundle")
    ] = None,
    only: Annotated[str, typer.Option(help="regular expression that names must match")] = "",
    women: int = 32,
    per_woman: int = 2,
    cohort_seed: Annotated[int, typer.Option(help="of the held-out women; not one that was trained on")] = 33,
    anatomies: Annotated[Path | None, typer.Option(help="folder of label volumes to use instead")] = None,
    held_out: Annotated[Path | None, typer.Option(help="cache of other women, to use instead")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="of the noise")] = 5,
) -> None:
    """Measure every candidate on the same pairs."""
    judges = Judges(*load_judges(predictor, segmenter))
    candidates = [
        *(c for entry in denoiser or () for c in candidates_of_denoiser(*_named(entry))),
        *(c for entry in direct or () for c in candidates_of_direct(*_named(entry))),
    ]
    if len({c.name for c in candidates}) < len(candidates):
        raise typer.BadParameter("two candidates have one name: give their networks names, NAME=FOLDER")
    rows.mkdir(parents=True, exist_ok=True)
    wanted = [c for c in candidates if re.search(only, c.name) and not _file(rows, c.name).exists()]
    if not (rows / PAIRS).exists():
        if held_out:
            others = open_cache(held_out)
            drawn = pairs_of_cache(others, others.rows, per_woman=per_woman)
        else:
            people = real_anatomies(anatomies, cohort_seed) if anatomies else simulated_women(women, cohort_seed)
            size = Preprocessing(size=judges_size(predictor))
            drawn = draw_held_out(people, size, per_woman=per_woman, seed=cohort_seed)
        save_pairs(drawn, rows / PAIRS)
    pairs = load_pairs(rows / PAIRS)
    reference = Reference(pairs, judges)
    for bound in (doing_nothing, acquiring):
        row = bound(reference)
        write_json(_file(rows, str(row["name"])), row)
    for candidate in tracked(wanted, "candidates"):
        write_json(_file(rows, candidate.name), run_candidate(candidate, reference, range(seeds)))


@app.command()
def report(
    rows: Annotated[Path, typer.Argument(help="folder that run wrote")],
    output: Annotated[Path, typer.Option(help="JSON of all rows")],
    picture: Annotated[Path, typer.Option(help="PNG")],
    title: str = "Held-out simulated women",
) -> None:
    """Table on the terminal, JSON and figure on disk."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(rows.glob("*.json"))]
    found.sort(key=gap, reverse=True)
    write_json(output, {"rows": found, "undominated": undominated(found)})
    figure(found, picture, title)
    typer.echo(table(found))
    typer.echo(f"\nundominated in gap and evaluations: {', '.join(undominated(found))}")


def judges_size(run: Path) -> int:
    """Edge of the slices that a judge was trained on."""
    record = json.loads((run / "network.json").read_text(encoding="utf-8"))
    return int(record["preprocessing"]["size"])


def _named(entry: str) -> tuple[str, Path]:
    """(name, or nothing; folder) of ``[NAME=]FOLDER``."""
    name, _, folder = entry.rpartition("=")
    return name, Path(folder)


def _file(rows: Path, name: str) -> Path:
    return rows / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', name)}.json"


if __name__ == "__main__":
    app()
