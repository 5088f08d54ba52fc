"""The ``reacquire`` command: serves the embedded stack, runs the operations offline, tells what is installed."""
