"""A stand-in switch and a mail catcher, for `make run`, for API clients without a PBX and for tests."""
