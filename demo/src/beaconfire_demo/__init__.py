"""The demo applications that `beaconfire up` shows: `campaign`, `workspace` and `tracker`, each in a folder of its
own.

* An application's folder has its page (`page/`) and, except for the campaign, its domain service: tables, calls,
  events and migrations, built with the kit. It runs with `python -m beaconfire_demo.workspace`.
* `page` has the parts that all pages share: sign-in, connection, forms, members, styles.
* `applications` lists the applications. `settings` and `site` write their pages as a folder of static files, together
  with the browser client (`client`, which is `clients/js/src` of the repository). A gateway serves that folder
  (`BEACONFIRE_STATIC_DIR`).
"""
