"""Who may send what: registered producers, the service's own senders, and the judgement of each batch by its sender."""
