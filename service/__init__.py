"""The API process: checks requests, keeps jobs, answers results. Never imports torch."""
