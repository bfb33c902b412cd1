"""Take the README's screenshots of the demo page: `python -m tests.ops.take_screenshots`.

Not a test: run it when the page has changed, and look at what it took.
"""

import tempfile
from pathlib import Path

from tests.gateway.web.chat_page import ChatPage
from tests.ops.browser import open_page
from tests.ops.examples import ROOT
from tests.ops.gateway_process import running_gateway

IMAGES = ROOT / "docs/images"
EARLIER = "こんにちは！自己紹介してください。"
TALK = (
    "Remember that I live in Osaka. Thoughtful, please.",
    "What can you show me? Markdown, happy",
)
LAST = "slow long story"


def take() -> None:
    """Talk once, then take the page in light and dark while an answer is being written."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_gateway(Path(folder) / "data", MAKOTO_SCRIPTED_PACE="60") as gateway,
        open_page(scale=2) as page,
    ):
        page.set_viewport_size({"width": 1240, "height": 800})
        chat = ChatPage(page=page, url=f"http://127.0.0.1:{gateway.port}/")
        chat.open()
        page.get_by_role("button", name="Memories").first.click()
        chat.ask(EARLIER)
        page.get_by_role("button", name="New conversation").click()
        for text in TALK:
            chat.ask(text)
        chat.say(LAST)
        chat.wait_for_text(characters=150)
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=IMAGES / "page.png")
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=IMAGES / "page-dark.png")


if __name__ == "__main__":
    take()
