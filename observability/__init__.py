"""Alert rules and dashboard, written once, as Python that takes every metric's name from ``reacquire.jobs.metrics``.

``python -m observability`` renders them into the chart (``helm/reacquire/files``), where compose finds them too. What
an alert means for whoever is on call is in ``docs/operations.md``, one section per alert.
"""
