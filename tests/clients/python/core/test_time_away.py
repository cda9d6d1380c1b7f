"""How long a client says that it was away, in the `connect` after a lost connection."""

from beaconfire_client.core.protocol import Message
from tests.clients.python.core.driver import Driver


def acknowledge(driver: Driver, link: int) -> None:
    ack = {"type": "connection.ack", "id": driver.last["id"], "sessionId": "s", "userId": "u1", "cursor": "e:1"}
    driver.receive(link, {**ack, "heartbeatS": 25, "degraded": False, "rooms": {}})


def connect(driver: Driver) -> tuple[int, Message]:
    """Begin a connection. Returns its link and its `connect`."""
    driver.give_token()
    link = driver.open()
    return link, driver.last


def test_time_since_a_lost_connection_is_reported_until_one_is_acknowledged() -> None:
    driver = Driver(transport="websocket")
    driver.core.connect()
    driver.carry_out()
    link, first = connect(driver)
    acknowledge(driver, link)
    driver.end(link)
    driver.advance(3)
    link, second = connect(driver)
    driver.end(link)
    driver.advance(6)
    link, third = connect(driver)
    acknowledge(driver, link)
    driver.receive(link, {"type": "goaway", "afterMs": 0, "withinMs": 1000})
    driver.advance(3)
    _, after_goaway = connect(driver)

    assert "awayMs" not in first
    assert (second["lastClose"], second["awayMs"], third["awayMs"]) == (1006, 3000, 9000)
    assert "awayMs" not in after_goaway


def test_time_after_the_application_closed_the_client_is_not_reported() -> None:
    driver = Driver(transport="websocket")
    driver.core.connect()
    driver.carry_out()
    link, _ = connect(driver)
    acknowledge(driver, link)
    driver.end(link)
    driver.core.close()
    driver.advance(60)
    driver.core.connect()
    driver.carry_out()
    _, message = connect(driver)

    assert "awayMs" not in message
