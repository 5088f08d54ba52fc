"""The process that owns a GPU (or a CPU): takes jobs in batches, runs the networks, writes results."""
