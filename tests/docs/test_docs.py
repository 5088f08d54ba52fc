"""The pages of docs/ against the code that they describe: codes and statuses, settings, addresses, names, rows."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from examples.phantom_case import SOURCE_PROTOCOL, WOMAN
from gateway.scp import ScpSettings
from gateway.settings import GatewaySettings
from reacquire.bundles.manifest import TrainedScanner
from reacquire.dicom import Limits
from reacquire.errors import every_code
from reacquire.iap import Record, load_vocabulary, resolve_target
from reacquire.iap.support import support_of
from reacquire.jobs.states import STATES
from reacquire.phantom import sample_protocol
from service.app import create_app
from service.errors import STATUS
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROBLEMS, PAPER, API = ((DOCS / name).read_text(encoding="utf-8") for name in ("problems.md", "paper.md", "api.md"))
SOURCES = [
    path
    for folder in ("reacquire", "service", "worker", "gateway", "training", "cli", "tests")
    for path in (ROOT / folder).rglob("*.py")
]


def rows(page: str, columns: int) -> list[list[str]]:
    """The body rows of every table with so many columns."""
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:2] == "| "]
    return [cells for cells in found if len(cells) == columns]


def codes_of_the_page() -> dict[str, int]:
    return {cells[0].strip("`"): int(cells[1]) for cells in rows(PROBLEMS, 4) if cells[0].startswith("`")}


def bad_input() -> dict[int, tuple[str, str]]:
    """Row number -> (status, code) of the table of bad input."""
    after = PROBLEMS.split("## Bad input")[1]
    return {int(cells[0]): (cells[2], cells[3].strip("`")) for cells in rows(after, 4) if cells[0].isdigit()}


def test_every_code_of_the_library_is_explained() -> None:
    assert every_code() <= set(codes_of_the_page())


def test_codes_and_statuses_are_those_of_the_service() -> None:
    assert codes_of_the_page() == dict(STATUS)


def test_every_explanation_is_complete() -> None:
    explained = [cells for cells in rows(PROBLEMS, 4) if cells[0].startswith("`")]
    assert len(explained) == len(codes_of_the_page())  # no code twice
    assert all(len(cells[2]) > 5 and len(cells[3]) > 5 for cells in explained)


def test_rows_of_bad_input_are_numbered_and_agree_with_the_statuses() -> None:
    table = bad_input()
    assert sorted(table) == list(range(1, 44))
    for status, code in table.values():
        if code not in ("none", "later"):
            assert status == str(STATUS[code])


def test_rows_that_the_code_refers_to_exist() -> None:
    known = {"problems.md": set(bad_input()), "paper.md": {int(c[0]) for c in rows(PAPER, 5) if c[0].isdigit()}}
    assert known["paper.md"] == set(range(1, 28))
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for page, numbers in re.findall(r"docs/(problems\.md|paper\.md),? rows? ([\d, and]+)", text):
            assert {int(n) for n in re.findall(r"\d+", numbers)} <= known[page], path


def test_limits_are_those_of_the_reader() -> None:
    limits, table = Limits(), PROBLEMS.split("## Limits")[1]
    mib = 2**20
    for figure in (
        f"| {limits.instance_bytes // mib} MiB |",
        f"| {limits.series_bytes // 2**30} GiB |",
        f"| {limits.instances} / {limits.entries:,} |",
        f"| {limits.archive_ratio} |",
        f"| {limits.elements:,} / {limits.depth} |",
        f"| {limits.side:,} / {limits.pixel_bytes // mib} MiB |",
    ):
        assert figure in table


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:reacquire|training)(?:\.\w+)+)`", PAPER + PROBLEMS))))
def test_names_of_the_pages_exist(name: str) -> None:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return
    pytest.fail(f"{name} does not exist")


def written(value: Any) -> str | None:
    """A default as the page of settings writes it; None where it writes words instead."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) else str(value)
    return value if isinstance(value, str) else None


def test_settings_are_listed_with_owner_and_default() -> None:
    listed = {c[0].strip("`"): c for c in rows(API, 4) if c[0].startswith("`REACQUIRE_")}
    programs = {
        "service": ServiceSettings.model_fields,
        "worker": WorkerSettings.model_fields,
        "courier": GatewaySettings.model_fields,
        "scp": ScpSettings.model_fields,
    }
    known = {name: field for fields in programs.values() for name, field in fields.items()}
    assert set(listed) == {f"REACQUIRE_{name.upper()}" for name in known}
    for name, field in known.items():
        _, default, owner, _ = listed[f"REACQUIRE_{name.upper()}"]
        owners = [program for program, fields in programs.items() if name in fields]
        assert owner == ("all" if len(owners) == len(programs) else ", ".join(owners)), name
        expected = None if field.default_factory else written(field.default)
        assert expected is None or default == f"`{expected}`"


def test_every_address_is_listed() -> None:
    app = create_app(ServiceSettings(blob_url="memory:///"))
    served = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    listed = {cells[0].strip("`") for cells in rows(API, 2) if re.match(r"`(GET|POST|DELETE|PUT) /", cells[0])}
    assert listed == served


def test_states_and_options_are_listed() -> None:
    from reacquire.jobs.spec import Options

    assert all(f"`{state}`" in API for state in STATES)
    assert all(f"| `{option}` |" in API for option in Options.model_fields)


def test_links_between_pages_lead_somewhere() -> None:
    for page in (path for path in DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


MANIFESTS = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "bundles").glob("*/manifest.json")]
SHIPPED = {manifest["name"]: manifest["version"] for manifest in MANIFESTS}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_bundles_are_pinned_at_the_version_that_ships() -> None:
    names = "|".join(map(re.escape, SHIPPED))
    pin = re.compile(rf'({names})(?:@|", "version": ")(\d+\.\d+\.\d+)')
    texts = [README, *(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))]
    texts.append((ROOT / "reacquire" / "bundles" / "store.py").read_text(encoding="utf-8"))
    pins = [found for text in texts for found in pin.findall(text)]
    assert len(pins) >= 3
    assert [(name, version) for name, version in pins if SHIPPED[name] != version] == []


def example_targets(page: str) -> list[Record]:
    """What the page's commands (curl, make demo, offline) ask of slice.dcm, which may be the demo's."""
    as_json = [json.loads(text) for text in re.findall(r"(?:target=|TARGET=')(\{.*?\})'", page)]
    pairs = re.findall(r"--target (\w+)=([\d.]+)", page)
    return as_json + [{keyword: float(value)} for keyword, value in pairs]


@pytest.mark.parametrize("page", [README, API], ids=["README.md", "api.md"])
def test_targets_of_the_commands_lie_inside_training_on_the_demos_slice(page: str) -> None:
    (manifest,) = (m for m in MANIFESTS if m["name"] == "phantom-v1")
    trained = [TrainedScanner.model_validate(scanner) for scanner in manifest["trained_on"]]
    vocabulary = load_vocabulary(manifest["vocabulary"]["name"])
    source = sample_protocol(np.random.default_rng(WOMAN), protocol_id=SOURCE_PROTOCOL).iap
    targets = example_targets(page)
    assert len(targets) >= 3
    for target in targets:
        complete = resolve_target(vocabulary, target=target, header=source, predicted={}).values
        support = support_of(complete, trained, vocabulary)
        assert support is not None and support.score == 1, (target, support)


def test_no_page_has_a_place_that_was_to_be_filled() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    assert len(pages) > 25
    assert not [page.name for page in pages if re.search(r"@@|TODO|FIXME", page.read_text(encoding="utf-8"))]
