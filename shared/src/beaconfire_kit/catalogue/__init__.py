"""The catalogue: the events, roots and schemas that a deployment knows, as data. No I/O.

A team writes a *fragment*: an AsyncAPI document of the profile in docs/reference/catalogue.md. `profile` reads it and
refuses what cannot work, `schemas` bounds and compiles its schemas, `compatibility` says what a new version of it would
break. `from_classes` makes a fragment from Python event classes, and `builtin` has ours.

All fragments together are a *revision*. `catalogue` merges them and looks types and roots up, `checking` checks events
against them, and `timeline` says which revision counts at which offset of the stream. `beaconfire_kit.catalogue_store`
keeps revisions in the broker.
"""
