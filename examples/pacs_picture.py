"""``python -m examples.pacs_picture``: a counterfactual of a simulated woman as Orthanc shows it (docs/images/).

Starts a private Orthanc, stores the derived image there, and asks Orthanc to render it: what a reader sees, and that
the notice burned into the pixels is in it. Needs Orthanc (Debian: orthanc orthanc-dicomweb); no PACS, no patient data.
"""

import argparse
import tempfile
from pathlib import Path

from examples.demo import TARGET
from examples.orthanc_server import Orthanc, missing
from examples.own_network import own_network
from examples.phantom_case import phantom_case
from reacquire.engine import Raw, load_pipeline
from reacquire.jobs.spec import OperationSpec, Options

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "counterfactual-in-orthanc.png"


def counterfactual_for_a_pacs() -> bytes:
    """A counterfactual of the demo's simulated woman, marked as everything that goes to a PACS is."""
    pipeline = load_pipeline(ROOT / "bundles" / "phantom-v1")
    options = Options(allow_synthetic=True, watermark=True)
    work = pipeline.prepare(
        OperationSpec(operation="counterfactual", target=TARGET, options=options), [phantom_case(TARGET).source_dicom]
    )
    (raw,) = pipeline.run([work])
    assert isinstance(raw, Raw)  # nothing is dropped, and the phantom's slice is sound
    return pipeline.finish(work, raw).artifacts["counterfactual.dcm"]


def rendered_by_orthanc(file: bytes) -> bytes:
    """A PNG of one DICOM image, made by Orthanc."""
    with own_network(), tempfile.TemporaryDirectory(prefix="orthanc-") as folder:
        orthanc = Orthanc(Path(folder))
        orthanc.start()
        try:
            orthanc.store([file])
            (series,) = orthanc.series().values()
            return orthanc.rendered(series["Instances"][0])
        finally:
            orthanc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PICTURE)
    output = parser.parse_args().output
    lacking = missing()
    if lacking:
        parser.error(lacking)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(rendered_by_orthanc(counterfactual_for_a_pacs()))


if __name__ == "__main__":
    main()
