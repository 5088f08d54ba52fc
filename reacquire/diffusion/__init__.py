"""Diffusion as mathematics: schedule, parameterisations, limiters, guidance, per-item noise, samplers, loop.

Knows no network, no DICOM and no bundle; a denoiser enters as a plain callable.
"""

from reacquire.diffusion.guidance import combine
from reacquire.diffusion.inversion import NoiseMaps, noise_maps
from reacquire.diffusion.limiters import Clamp, Limiter, NoLimit, PercentileRescale
from reacquire.diffusion.loop import Denoise, OnStep, edit, iterate, run
from reacquire.diffusion.noise import ItemNoise, Seed, SliceSeed, derive_seed
from reacquire.diffusion.paper import paper_edit, paper_step, paper_tables
from reacquire.diffusion.parameterisation import (
    Epsilon,
    Parameterisation,
    Sample,
    Velocity,
)
from reacquire.diffusion.samplers import DDIM, Ancestral, DPMSolverPP2M, Previous, Sampler, sampler_from_name
from reacquire.diffusion.schedule import CLEAN, Level, NoiseSchedule, lambda_uniform

__all__ = [
    "CLEAN",
    "DDIM",
    "Ancestral",
    "Clamp",
    "DPMSolverPP2M",
    "Denoise",
    "Epsilon",
    "ItemNoise",
    "Level",
    "Limiter",
    "NoLimit",
    "NoiseMaps",
    "NoiseSchedule",
    "OnStep",
    "Parameterisation",
    "PercentileRescale",
    "Previous",
    "Sample",
    "Sampler",
    "Seed",
    "SliceSeed",
    "Velocity",
    "combine",
    "derive_seed",
    "edit",
    "iterate",
    "lambda_uniform",
    "noise_maps",
    "paper_edit",
    "paper_step",
    "paper_tables",
    "run",
    "sampler_from_name",
]
