"""Whole networks: traffic by journeys, its true usage, and log files as AWS would write them."""
