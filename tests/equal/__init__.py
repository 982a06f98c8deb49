"""Two revisions answer alike: what each prints, sends and stores, byte by byte."""
