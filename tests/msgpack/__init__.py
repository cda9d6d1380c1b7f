"""A client of the npm package `@msgpack/msgpack` for tests."""
