"""A tab of any browser: what the core cases need, which run in Chromium, on a phone and in Firefox."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

WAIT_MS = 20_000
# Where to press: the middle of the first element that matches, has the text, stands still and has nothing over it.
PLACE = """([selector, text, waitMs]) => new Promise((resolve, reject) => {
    const end = Date.now() + waitMs;
    let before = "";
    const look = () => {
        const element = [...document.querySelectorAll(selector)].find((one) => one.innerText.includes(text));
        element?.scrollIntoView({ block: "center", behavior: "instant" });
        const { left, top, width, height } = element?.getBoundingClientRect() ?? {};
        const [x, y] = [Math.round(left + width / 2), Math.round(top + height / 2)];
        const isThere = element && !element.disabled && element.contains(document.elementFromPoint(x, y));
        if (isThere && before === `${x} ${y}`) return resolve([x, y]);
        before = isThere ? `${x} ${y}` : "";
        if (Date.now() > end) return reject(new Error(`There is no ${selector} with the text “${text}” to press`));
        setTimeout(look, 50);
    };
    look();
})"""
UNTIL = """([selector, text, waitMs]) => new Promise((resolve, reject) => {
    const end = Date.now() + waitMs;
    const look = () => {
        const shown = [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
        const texts = shown.map((one) => one.innerText);
        if (texts.some((one) => one.includes(text))) return resolve();
        if (Date.now() > end) return reject(new Error(`No “${text}” in ${selector}, but ${JSON.stringify(texts)}`));
        setTimeout(look, 20);
    };
    look();
})"""

UNTIL_THERE = """([selector, waitMs]) => new Promise((resolve, reject) => {
    const end = Date.now() + waitMs;
    const look = () => {
        if (document.querySelector(selector)) return resolve();
        if (Date.now() > end) return reject(new Error(`There is no ${selector}`));
        setTimeout(look, 20);
    };
    look();
})"""


class Tab(ABC):
    """One tab. It has the calls that Playwright's `Page` has too, and a few that work the same in every browser."""

    @abstractmethod
    async def goto(self, url: str) -> None:
        """Load a page, with everything that it needs."""

    @abstractmethod
    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """Call a function of the page's, and wait for its result."""

    @abstractmethod
    async def set_offline(self, is_offline: bool, /) -> None:
        """Take the network away, or give it back."""

    @abstractmethod
    async def another(self) -> "Tab":
        """Open a further tab of the same browser window."""

    @abstractmethod
    async def screenshot(self, path: Path) -> None:
        """Write a picture of what is on the screen."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def _press_at(self, x: int, y: int) -> None:
        """Press with the mouse or a finger."""

    async def press(self, selector: str, text: str = "") -> None:
        """Press an element, once it can be pressed."""
        x, y = await self.evaluate(PLACE, [selector, text, WAIT_MS])
        await self._press_at(x, y)

    async def until(self, selector: str, text: str) -> None:
        """Wait until an element shows a text. A text that is shown for a moment may be missed."""
        await self.evaluate(UNTIL, [selector, text, WAIT_MS])

    async def until_there(self, selector: str) -> None:
        """Wait until there is such an element, visible or not."""
        await self.evaluate(UNTIL_THERE, [selector, WAIT_MS])


class ChromiumTab(Tab):
    """A tab of Chromium. With `has_touch` it is pressed with a finger."""

    def __init__(self, page: Page, *, has_touch: bool) -> None:
        self.page = page
        self._has_touch = has_touch

    @classmethod
    @asynccontextmanager
    async def opened(cls, browser: Browser, **options: Any) -> AsyncIterator["ChromiumTab"]:
        """Open a window of its own, as on another computer, with options of Playwright's `new_context`."""
        context: BrowserContext = await browser.new_context(locale="en-GB", **options)
        yield cls(await context.new_page(), has_touch=options.get("has_touch", False))
        await context.close()

    async def goto(self, url: str) -> None:
        await self.page.goto(url)

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        return await self.page.evaluate(expression, arg)

    async def set_offline(self, is_offline: bool, /) -> None:
        await self.page.context.set_offline(is_offline)

    async def another(self) -> "ChromiumTab":
        return ChromiumTab(await self.page.context.new_page(), has_touch=self._has_touch)

    async def screenshot(self, path: Path) -> None:
        await self.page.screenshot(path=path)

    async def close(self) -> None:
        await self.page.close()

    async def _press_at(self, x: int, y: int) -> None:
        await (self.page.touchscreen.tap(x, y) if self._has_touch else self.page.mouse.click(x, y))
