"""Logs that are read line by line: whole lines in bounded blocks, and the tally of what became of each."""
