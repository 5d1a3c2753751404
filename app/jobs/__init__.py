"""Background work: the queue, leadership, claims, and loops."""
