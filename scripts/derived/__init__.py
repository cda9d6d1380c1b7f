"""Everything that is written from the catalogue and the tables: one module per kind of file, pure functions to text."""
