"""Who did what: written with each change and before each reading of PINs and audio, shown to administrators, kept for a time."""
