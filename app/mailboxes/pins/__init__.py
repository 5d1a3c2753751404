"""PINs: sealed at rest, and one at a time whether the API or a phone set it."""
