"""Recordings: the files under the recordings folder and their contents."""
