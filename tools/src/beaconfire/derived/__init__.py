"""What is written from a catalogue: reference pages, and types for TypeScript and Python. Pure functions to text."""
