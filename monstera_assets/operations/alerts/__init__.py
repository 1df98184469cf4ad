"""Alerts: telling people which checks and steps of a run fail, once, and when they are mended.

`outcomes` reads a finished run, `state` decides what of it is news and keeps unsent messages,
`message` words them, `sending` brings them to people, `alerts` ties these together for the command
line and `sensors` for the daemon. What is checked, and how urgent it is, stands with the rules.
"""
