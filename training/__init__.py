"""Offline training, evaluation and packing of the three models; imports ``reacquire`` and nothing else of ours."""
