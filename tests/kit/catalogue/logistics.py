"""A fragment written by hand, as a logistics team would: depots, parcels, couriers."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import yaml

TEXT = """\
asyncapi: 3.0.0
info: {title: Logistics, version: 2.4.0}
x-beaconfire:
  fragment: logistics
  roots:
    depot: {members: true, presence: true}
channels:
  parcel:
    address: depot.{depotId}.parcel.{parcelId}
    parameters:
      depotId: {description: Where the parcel is.}
      parcelId: {location: $message.payload#/parcel/id}
    messages:
      moved: {$ref: '#/components/messages/ParcelMoved'}
      lost:
        name: parcel.lost
        description: A parcel could not be found.
        payload:
          type: object
          required: [reason]
          properties:
            depotId: {type: string}
            parcel: {$ref: '#/components/schemas/Parcel'}
            reason: {enum: [stolen, misplaced]}
  courier:
    address: depot.{depotId}.courier.{courierId}.position
    messages:
      courier.position:
        payload:
          type: object
          required: [lat, lon]
          properties:
            lat: {type: number, minimum: -90, maximum: 90}
            lon: {type: number, minimum: -180, maximum: 180}
            at: {type: string, format: date-time}
        x-beaconfire: {ephemeral: true, conflate: {key: /courierId, windowMs: 200}}
components:
  messages:
    ParcelMoved:
      name: parcel.moved
      summary: A parcel was scanned.
      payload:
        schemaFormat: application/schema+json;version=2020-12
        schema:
          type: object
          required: [to]
          properties:
            parcel: {$ref: '#/components/schemas/Parcel'}
            to: {type: string, maxLength: 40}
            route: {type: array, prefixItems: [{type: string}], items: {type: string}}
      x-beaconfire: {version: 2}
  schemas:
    Parcel:
      type: object
      properties:
        id: {type: string}
        weightKg: {type: number, exclusiveMinimum: 0}
"""


def logistics(change: Callable[[Any], object] = lambda document: None) -> dict[str, Any]:
    """Return the document, changed."""
    document: dict[str, Any] = deepcopy(yaml.safe_load(TEXT))
    change(document)
    return document
