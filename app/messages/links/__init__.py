"""Links to recordings that work without a token until they expire."""
