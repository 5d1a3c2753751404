"""Recordings in other formats: converted by a child process, kept in a folder within a bound."""
