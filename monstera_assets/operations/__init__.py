"""Running the graph: partitions, runs, the orchestrator's storage, what a run reports.

Belongs here: everything about when and how assets are materialized. Does not belong here: what they
contain.
"""
