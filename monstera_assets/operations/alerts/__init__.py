"""Notify people when a run's checks or steps fail, when tables are late, and when they recover."""
