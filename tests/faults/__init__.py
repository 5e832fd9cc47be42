"""What happens to a write when something fails at any of its steps, with real processes and real stores."""
