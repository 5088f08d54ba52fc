"""Classifier-free guidance (Ho and Salimans 2022) as one pure function."""

from torch import Tensor


def combine(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Algorithm 1's (1 - w) * unconditional + w * conditional, in the form that is exact at w = 0.

    Works on network outputs and on predicted x_0 alike, since every parameterisation is affine in the output. At
    ``scale`` 1 guidance does nothing: do not evaluate the unconditional branch at all.
    """
    return unconditional + scale * (conditional - unconditional)
