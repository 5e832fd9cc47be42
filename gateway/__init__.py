"""PKB Partner Appointment Gateway: what a customer granted a partner may do to an appointment, and nothing else."""

__version__ = "0.1.0"
RELEASED = "2026-11-22"
"""The date of this version, for documents that carry one."""
