"""Alerts notify people when a run's checks or steps fail, when tables are late, and when they recover.

`history` reads what is new from Dagster's own records, `message` formats messages and `sending`
delivers messages. `alerts` combines these modules for the command line and for the daemon.
Rules define what is checked and how urgent a failure is.
"""
