"""A made-up company as a source: people, accounts and events of known rates, for demos and tests.

Belongs here: the rates, the processes that they drive, and the writing of a source folder. Nothing
in the graph imports it, and it imports nothing of the graph.
"""
