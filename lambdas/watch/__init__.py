"""Function that publishes the figures of the alarms."""
