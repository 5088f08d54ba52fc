"""Programs that show the whole: the demo and the benchmark; run as ``python -m examples.demo``."""
