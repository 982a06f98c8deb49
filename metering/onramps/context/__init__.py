"""Context: facts that the owner of logs knows beside the logs, stored in immutable versions."""
