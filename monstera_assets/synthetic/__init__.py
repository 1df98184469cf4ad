"""A made-up company as a source: people, accounts and events of known rates, for demos and tests.

Belongs here: the rates, the processes that they drive, and the writing of a source folder. The graph
knows nothing of it, and it knows nothing of the graph but what a source looks like.
"""
