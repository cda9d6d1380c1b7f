"""Origins in the form that browsers send."""

import pytest

from beaconfire_kit.origins import InvalidOrigin, normal_origin

WRITTEN = {
    "https://app.example.com": "https://app.example.com",
    "https://app.example.com/": "https://app.example.com",
    "HTTPS://App.Example.COM": "https://app.example.com",
    "https://app.example.com:443": "https://app.example.com",
    "http://app.example.com:80/": "http://app.example.com",
    "http://app.example.com:443": "http://app.example.com:443",
    "http://localhost:3000": "http://localhost:3000",
    "http://127.0.0.1:8080/": "http://127.0.0.1:8080",
    "http://[::1]:8080": "http://[::1]:8080",
    "http://[0:0:0:0:0:0:0:1]:80": "http://[::1]",
    "https://bücher.example": "https://xn--bcher-kva.example",
    "https://BÜCHER.example": "https://xn--bcher-kva.example",
    "capacitor://localhost": "capacitor://localhost",
    "chrome-extension://abcdefghijklmnop": "chrome-extension://abcdefghijklmnop",
}
REFUSED = {
    "*": "wildcards",
    "https://*.example.com": "wildcards",
    "null": "not an origin",
    "": "not an origin",
    "app.example.com": "not an origin",
    "app.example.com:443": "not an origin",
    "//app.example.com": "not an origin",
    "https://": "not an origin",
    "file://": "not an origin",
    "https://app.example.com:99999": "not an origin",
    "https://app.example.com:0": "no host",
    "https://app example.com": "no host",
    "https://-app.example.com": "no host",
    "http://127.1:8080": "no host",
    "http://[fe80::1%25eth0]": "no host",
    "https://app.example.com/path": "leave it at https://app.example.com",
    "https://app.example.com/?query": "leave it at https://app.example.com",
    "https://app.example.com#part": "leave it at https://app.example.com",
    "https://user:word@app.example.com": "leave it at https://app.example.com",
    "wss://app.example.com": "socket's address",
}


@pytest.mark.parametrize(("written", "sent"), WRITTEN.items())
def test_origin_is_normalised_to_the_form_that_browsers_send(written: str, sent: str) -> None:
    assert normal_origin(written) == sent


@pytest.mark.parametrize(("written", "why"), REFUSED.items())
def test_origin_that_no_browser_sends_is_refused_with_advice(written: str, why: str) -> None:
    with pytest.raises(InvalidOrigin, match=why):
        normal_origin(written)


@pytest.mark.parametrize("sent", sorted(set(WRITTEN.values())))
def test_normalising_an_origin_twice_changes_nothing(sent: str) -> None:
    assert normal_origin(sent) == sent
