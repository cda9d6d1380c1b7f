"""The demo applications that `beaconfire up` shows: each in a folder of its own, with its page.

`site` writes the pages as a folder of static files, with the browser client that they use (`client`, which is
`clients/js/src` of the repository). A gateway serves that folder (`BEACONFIRE_STATIC_DIR`).
"""
