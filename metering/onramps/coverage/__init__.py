"""Coverage: compares expected and received files of log sources."""
