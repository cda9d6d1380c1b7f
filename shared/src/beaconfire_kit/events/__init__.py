"""Our event classes, a file per domain. Importing `beaconfire_kit.events.every` declares all of them."""
