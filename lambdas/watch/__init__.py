"""The function that publishes what alarms look at."""
