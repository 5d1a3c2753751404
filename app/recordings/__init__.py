"""Recordings: the files under the recordings folder and what is in them."""
