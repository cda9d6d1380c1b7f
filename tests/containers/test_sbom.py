"""The list of what an image contains is complete and valid."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.sbom import composed, contents, document
from tests.containers.deployment import IMAGES, Deployment

# The first test builds the images.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("image", composed())
def test_list_of_an_image_names_its_packages_and_is_valid(image: str, built: Deployment) -> None:
    """It has every Python package, every package of the distribution, and the Go modules of Caddy."""
    answers = contents(f"{IMAGES}/{image.partition('/')[2]}")
    text = document(image, answers)
    purls = [one["purl"] for one in json.loads(text)["components"]]

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert len(purls) >= len(answers["python"]) + len(answers["debian"]) + len(answers["alpine"])
    assert [one for one in purls if one.startswith(("pkg:deb/debian/base-files@", "pkg:apk/alpine/alpine-baselayout@"))]
    wanted = "pkg:golang/github.com/caddyserver/caddy/v2@" if image.endswith("/proxy") else "pkg:pypi/beaconfire-kit@"
    assert [one for one in purls if one.startswith(wanted)]
