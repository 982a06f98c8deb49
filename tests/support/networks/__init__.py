"""Whole networks: traffic made of journeys, its true usage, and its log files as AWS would write them."""
