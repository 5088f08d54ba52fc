"""Measures speed and memory against this machine's own ceilings and against the paper's edit in the same run."""
