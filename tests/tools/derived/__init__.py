"""Pages and types that are written from a catalogue."""
