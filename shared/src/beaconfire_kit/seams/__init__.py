"""Everything that leans on private parts of aiohttp, nats-py, FastStream or aiosqlite.

Each seam is a file of its own. tests/kit/seams has a test for each that fails when a release of the library changes
what the seam leans on. A test in tests/architecture refuses private names of other libraries anywhere else.
"""
