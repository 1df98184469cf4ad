"""Alerts notify people when a run's checks or steps fail and when they recover.

`outcomes` reads a finished run, `state` decides which outcomes to report and stores unsent
messages, `message` formats messages and `sending` delivers messages. `alerts` combines these modules
for the command line, and `sensors` combines these modules for the daemon. Rules define what is checked
and how urgent a failure is.
"""
