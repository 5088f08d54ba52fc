"""What is fast must be the reference: folded attention on any device, a GPU against a CPU."""

from pathlib import Path

import pytest
import torch
from tiny_bundle import pack_tiny

from reacquire.engine import Editor, Settings, load_pipeline
from reacquire.engine.guided import Guided
from reacquire.engine.sdedit import Sdedit
from reacquire.jobs.spec import Options
from reacquire.networks.fold import FoldedCrossAttention

RECORD = {"EchoTime": 2.4, "ManufacturerModelName": "Avanto"}
BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "phantom-v1"


def edited(editor: Editor, device: str = "cpu") -> torch.Tensor:
    size = 32
    image = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    settings = Settings.of(Options(), editor.setup)
    return editor.edit(image, [RECORD, {}], [1, 2], settings, sources=[{}, RECORD]).cpu()


def editor_of(folder: Path, device: str = "cpu") -> Editor:
    return load_pipeline(folder, device=device).editor


def awake(network: torch.nn.Module) -> None:
    """Layers that start at zero drawn at random, so that their inside shows."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)


def test_diffusion_runs_folded_and_gives_what_the_whole_attention_gives(tmp_path: Path) -> None:
    editor = editor_of(pack_tiny(tmp_path, "sdedit"))
    awake(editor.network)
    assert any(isinstance(m, FoldedCrossAttention) for m in editor.method.guided.network.modules())  # type: ignore[attr-defined]
    whole = Editor(editor.network, editor.encoding, editor.setup)
    whole.__dict__["method"] = Sdedit(Guided.of(editor.network, editor.setup), editor.setup)  # type: ignore[arg-type]
    torch.testing.assert_close(edited(editor), edited(whole), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_gives_what_a_cpu_gives_its_noise_included() -> None:
    torch.testing.assert_close(edited(editor_of(BUNDLE, "cuda"), "cuda"), edited(editor_of(BUNDLE)), atol=2e-3, rtol=0)
