"""What a report is made of: figures with their interval, tables and pictures of them, sections. No measuring here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.statistics import Estimate

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes
    ----------
    estimate : value, interval, how many units were resampled and what they are
    settings : key of the report's settings: what it was measured with
    measured_in : unit of the value; empty for shares and ratios
    """

    estimate: Estimate
    settings: str
    measured_in: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.estimate.to_dict(), "measured_in": self.measured_in, "settings": self.settings}


Figures = dict[str, Figure]
Cell = str | Figure | None


@dataclass(frozen=True)
class Table:
    """``columns`` name the cells of each row; ``note`` stands below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file with what it shows."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """One question with its answer.

    Attributes
    ----------
    name : of the option ``--sections``
    question : what the section is for, in plain words
    method, caveats : how it was measured and what it does not say
    figures : by group and name, as they stand in report.json
    """

    name: str
    title: str
    question: str
    method: str
    caveats: tuple[str, ...]
    figures: Mapping[str, Figures]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A row of the summary: a layperson's question, the figure, what to hold it against, and what follows."""

    question: str
    figure: Figure
    yardstick: Cell
    verdict: str


@dataclass(frozen=True)
class Report:
    """``made`` says from what; ``left_out`` which sections are missing and why."""

    title: str
    made: Mapping[str, Any]
    settings: Mapping[str, Settings]
    answers: tuple[Answer, ...]
    sections: tuple[Section, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Figures]:
        """All figures by group and name."""
        merged: dict[str, Figures] = {}
        for section in self.sections:
            for group, figures in section.figures.items():
                merged.setdefault(group, {}).update(figures)
        return merged


def table_of(title: str, head: str, figures: Mapping[str, Figures], note: str = "") -> Table:
    """A table with one row per name and one column per group of figures."""
    names = list(dict.fromkeys(name for column in figures.values() for name in column))
    rows = tuple((name, *(column.get(name) for column in figures.values())) for name in names)
    return Table(title, (head, *figures), rows, note)
