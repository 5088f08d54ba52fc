"""Every way of editing with its settings on the same held-out pairs: who closes how much of the gap at which cost."""
