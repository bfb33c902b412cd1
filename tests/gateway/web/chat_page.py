"""The demo page as a person sees it."""

import re
from dataclasses import dataclass, field

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

ANSWER_MS = 30_000

LONG = "Tell me something long"
"""A wish that the scripted model answers with `SENTENCES`."""

SENTENCES = list(range(1, 26))

OFFLINE = (r"WebSocket connection to .* failed", r"Failed to load resource: net::ERR_CONNECTION")
"""What a browser complains of while there is no server."""

_WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def sentences(text: str) -> list[int]:
    """Return the numbers of the sentences of an answer to `LONG`."""
    return [int(n) for n in re.findall(r"sentence (\d+) of", text)]


@dataclass
class ChatPage:
    """What a test does on the page, and everything the browser complained about meanwhile."""

    page: Page
    url: str
    expected_faults: list[str] = field(default_factory=list)
    _faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(_WATCH_POLICY)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self._faults.append(f"uncaught: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._faults.append(f"{message.type}: {message.text}")

    @property
    def faults(self) -> list[str]:
        """Errors, warnings and policy violations, but for those that match `expected_faults`."""
        violations = [f"policy: {text}" for text in self.page.evaluate("window.violations ?? []")]
        known = self.expected_faults
        return [f for f in self._faults + violations if not any(re.search(k, f) for k in known)]

    def open(self, fragment: str = "") -> None:
        self.page.goto(self.url + fragment)
        self.wait_until_connected()

    def wait_until_connected(self) -> None:
        expect(self.page.locator("#connection")).to_have_text("Connected", timeout=20_000)

    @property
    def field(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def said(self) -> Locator:
        return self.page.locator(".said-text")

    @property
    def replies(self) -> Locator:
        return self.page.locator(".reply:visible")

    @property
    def texts(self) -> Locator:
        return self.page.locator(".reply:visible .text")

    @property
    def live(self) -> Locator:
        return self.page.locator(".reply[aria-busy=true]:visible")

    def status(self, text: str) -> Locator:
        """Return what is said under a message, if it is that."""
        return self.page.locator(".said-status", has_text=text)

    @property
    def spoken(self) -> Locator:
        """What a screen reader was told to say in the last seconds."""
        return self.page.locator("#spoken")

    @property
    def sessions(self) -> Locator:
        return self.page.locator(".session")

    def say(self, text: str) -> None:
        """Send a message."""
        self.field.fill(text)
        self.field.press("Enter")

    def ask(self, text: str) -> Locator:
        """Send a message and wait for the whole answer; returns its text."""
        before = self.replies.count()
        self.say(text)
        expect(self.replies).to_have_count(before + 1, timeout=ANSWER_MS)
        self.wait_until_idle()
        return self.texts.nth(before)

    def delete(self, title: str) -> None:
        """Delete a conversation."""
        row = self.page.locator(".sessions li", has=self.page.get_by_text(title, exact=True))
        row.hover()
        row.get_by_role("button", name="Delete").click()
        self.page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    def rename(self, title: str, to: str) -> None:
        """Give a conversation another title."""
        row = self.page.locator(".sessions li", has=self.page.get_by_text(title, exact=True))
        row.hover()
        row.get_by_role("button", name="Rename").click()
        self.page.get_by_label("Title", exact=True).fill(to)
        self.page.get_by_label("Title", exact=True).press("Enter")

    def wait_until_idle(self) -> None:
        """Wait until no answer is under way."""
        expect(self.live).to_have_count(0, timeout=ANSWER_MS)

    def wait_for_text(self, characters: int = 1) -> str:
        """Wait until the last answer is under way with some text, and return that."""
        last = self.texts.last
        expect(last).to_have_text(re.compile(rf"[\s\S]{{{characters},}}"), timeout=ANSWER_MS)
        return last.inner_text()
