"""Function that publishes the watch's figures for the alarms."""
