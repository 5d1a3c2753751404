"""Requests that a client may send again: what they did is done once, and the first answer is kept for a day."""
