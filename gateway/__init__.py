"""PKB Partner Appointment Gateway: what a customer granted a partner may do to an appointment, and nothing else."""

__version__ = "0.1.0"
