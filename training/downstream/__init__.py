"""Table 3 of the paper as an experiment: does a segmenter gain from counterfactuals of a vendor that it never saw?

``arms`` says what may be done to the training slices, ``copies`` makes the copies that some arms add, ``data`` picks
the women, ``cell`` trains and tests one segmenter, ``table`` turns cells into figures with intervals, ``experiment``
puts it together. The unit of work is a cell (vendor trained on, arm, seed): a finished one is never trained again.
"""

from training.downstream.arms import ARMS
from training.downstream.experiment import RESULT, DownstreamError, Request, run_downstream

__all__ = ["ARMS", "RESULT", "DownstreamError", "Request", "run_downstream"]
