"""Makes counterfactuals of normalised slices with whichever method the bundle's network was trained for."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from reacquire.bundles.manifest import DirectSetup, EditorSetup, InversionSetup, StructureSetup
from reacquire.diffusion import OnStep, Seed
from reacquire.engine.direct import Direct
from reacquire.engine.guided import Guided
from reacquire.engine.inversion import Inversion
from reacquire.engine.method import Method, Settings
from reacquire.engine.samples import passes
from reacquire.engine.sdedit import Sdedit
from reacquire.engine.structure import Structure
from reacquire.engine.tone import Tone
from reacquire.errors import InputError, PixelError
from reacquire.iap import Encoding, Record
from reacquire.jobs.spec import Options
from reacquire.networks import Condition, Denoiser, fold_cross_attention


@dataclass(frozen=True)
class Editor:
    """The network, the encoding of its conditions, how it is to be run, and what follows it in a direct bundle."""

    network: nn.Module
    encoding: Encoding
    setup: EditorSetup
    tone: Tone | None = None

    @cached_property
    def method(self) -> Method:
        if isinstance(self.setup, DirectSetup):
            return Direct(self.network, self.setup, self.tone)
        network = fold_cross_attention(self.network) if isinstance(self.network, Denoiser) else self.network
        guided = Guided.of(network, self.setup)
        if isinstance(self.setup, StructureSetup):
            return Structure(guided, self.setup)
        return Inversion(guided, self.setup) if isinstance(self.setup, InversionSetup) else Sdedit(guided, self.setup)

    def check(self, options: Options) -> None:
        """Refuse what this bundle's method cannot do.

        Raises
        ------
        InputError
            Naming the option.
        """
        self.method.check(options)

    def evaluations(self, options: Options) -> int:
        """Network evaluations per slice that the options ask for."""
        runs = passes(Settings.of(options, self.setup), options.samples)
        return sum(self.method.evaluations(run.settings) for run in runs)

    def edit(
        self,
        source: Tensor,
        targets: Sequence[Record],
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
        *,
        sources: Sequence[Record] | None = None,
    ) -> Tensor:
        """Counterfactuals of a batch.

        Parameters
        ----------
        source : (B, 1, S, S) float32, normalised
        targets : B records; what they leave out is unknown
        seeds : B, one per slice
        settings : of the batch
        on_step : told (steps done, steps in all); the rows that it answers leave the batch
        sources : B records, how the slices were acquired; unknown when absent

        Returns
        -------
        (B, 1, S, S); rows that left are NaN

        Raises
        ------
        InputError
            When the source is no batch of single-channel slices, or the others do not have its length.
        PixelError
            ``degenerate-image`` when a pixel of the source is not finite.
        """
        _check_batch(source, targets, seeds, source if sources is None else sources)
        source_iap = self._condition([{}] * len(source) if sources is None else sources, source)
        return self.method.edit(source, source_iap, self._condition(targets, source), seeds, settings, on_step)

    def _condition(self, records: Sequence[Record], like: Tensor) -> Condition:
        return Condition.stack([self.encoding.encode(self._encodable(record)) for record in records], like.device)

    def _encodable(self, record: Record) -> Record:
        return {k: v for k, v in record.items() if k in self.encoding.slices}


def _check_batch(source: Tensor, *others: Sized) -> None:
    if source.ndim != 4 or source.shape[1] != 1 or len(source) == 0:
        raise InputError("an edit takes a batch of slices with one channel each")
    if any(len(other) != len(source) for other in others):
        raise InputError(f"targets, seeds and sources must be as many as the slices: {len(source)}")
    if not source.isfinite().all():
        raise PixelError("the image holds values that are not finite", code="degenerate-image", where="PixelData")
