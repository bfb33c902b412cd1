"""Signed URLs in a real Chromium, on a page of another origin than the bucket's.

s3rver judges a URL's time and applies CORS; MiniStack also judges signatures and policies.
"""

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Page, WebSocketRoute

from storage.blobs.blob_store import SignedUpload
from storage.blobs.presigned import Presigner
from storage.keys import blob_key
from storage.records import BlobRef
from storage.sigv4 import Credentials
from storage.ttl import DOWNLOAD_URL, UPLOAD_URL
from tests.engines.processes import Engine
from tests.ops.browser import open_page
from tests.storage.blobs import s3_hosts
from tests.storage.samples import ANNA, BEN

pytestmark = pytest.mark.browser

WEB = Path(__file__).parents[3] / "gateway/web"
BODY = "長い文章。" * 4_000
KEY = blob_key(ANNA, "payload")

PAGE = """<!doctype html>
<title>A page of somebody else</title>
<link rel="icon" href="data:,">
<script type="module">
  import { MakotoClient } from "./makoto.js";
  const told = async (asking) => {
    try {
      const response = await asking;
      return response.ok ? await response.text() : `refused: ${response.status}`;
    } catch {
      return "refused";
    }
  };
  window.download = (url) => told(fetch(url, { credentials: "omit" }));
  window.upload = ({ url, fields }, body) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", new Blob([body]));
    return told(fetch(url, { method: "POST", body: form, credentials: "omit" }));
  };
  window.ask = async (content) => {
    const client = new MakotoClient({ url: `ws://${location.host}/v1/ws`, token: async () => "t" });
    const { text } = await client.send(content).done;
    client.close();
    return text;
  };
</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket that the pages of `origin` may use.

    Attributes:
        engine: the name of what serves it.
        stored: asks the engine for the body under a key, by a good URL; `None` for none.
    """

    engine: str
    url: str
    keys: Credentials
    name: str
    origin: str

    @property
    def presigner(self) -> Presigner:
        return Presigner(bucket=self.name, region=s3_hosts.REGION, endpoint_url=self.url)

    def put(self, key: str, body: bytes) -> BlobRef:
        async def put() -> BlobRef:
            async with s3_hosts.opened(self.url, self.keys, self.name) as blobs:
                return await blobs.put(key, body)

        return elsewhere(put)

    def stored(self, key: str) -> bytes | None:
        signed = self.presigner.download(self.keys, ref_of(b"", key), now=time.time())
        answer = elsewhere(lambda: s3_hosts.fetch(signed))
        return answer.body if answer.status == 200 else None

    def download_url(self, ref: BlobRef, *, ago: float = 0) -> str:
        return self.presigner.download(self.keys, ref, now=time.time() - ago).url

    def form(self, ref: BlobRef, *, ago: float = 0) -> dict[str, Any]:
        return form_of(self.presigner.upload(self.keys, ref, now=time.time() - ago))


def elsewhere(work: Callable[[], Any]) -> Any:
    """Run a coroutine on a thread of its own: this one's loop is Playwright's."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(asyncio.run(work())))
    thread.start()
    thread.join(30)
    return done[0]


def form_of(signed: SignedUpload) -> dict[str, Any]:
    return {"url": signed.url, "fields": signed.fields}


def ref_of(body: bytes, key: str = KEY) -> BlobRef:
    return BlobRef(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a web server with the page and the client."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    (folder / "makoto.js").write_bytes((WEB / "makoto.js").read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@pytest.fixture(params=["s3rver", "ministack"])
def bucket(request: pytest.FixtureRequest, site: str) -> Bucket:
    name: str = request.param
    fixture = {"s3rver": "s3rver", "ministack": "strict_ministack"}[name]
    engine: Engine = request.getfixturevalue(fixture)
    keys = s3_hosts.KEYS[name]
    made = elsewhere(lambda: s3_hosts.make_bucket(engine.url, keys, origin=site))
    return Bucket(engine=name, url=engine.url, keys=keys, name=made, origin=site)


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with open_page() as page:
        yield page


@pytest.fixture
def page(browser_page: Page, site: str) -> Page:
    browser_page.goto(site)
    browser_page.wait_for_function("window.ask !== undefined")
    return browser_page


def download(page: Page, url: str) -> str:
    said: str = page.evaluate("(url) => download(url)", url)
    return said


def upload(page: Page, form: dict[str, Any], body: str) -> str:
    said: str = page.evaluate("([form, body]) => upload(form, body)", [form, body])
    return said


def test_a_page_of_another_origin_downloads_and_uploads(page: Page, bucket: Bucket) -> None:
    ref = bucket.put(KEY, BODY.encode())
    assert download(page, bucket.download_url(ref)) == BODY

    new = ref_of(BODY.encode(), blob_key(ANNA, "new"))
    assert upload(page, bucket.form(new), BODY) == ""
    assert bucket.stored(new.key) == BODY.encode()


def test_a_page_that_cors_does_not_name_reads_nothing(
    browser_page: Page, bucket: Bucket, site: str
) -> None:
    ref = bucket.put(KEY, BODY.encode())
    browser_page.goto(site.replace("127.0.0.1", "localhost"))
    browser_page.wait_for_function("window.ask !== undefined")

    assert download(browser_page, bucket.download_url(ref)) == "refused"


def test_a_url_is_refused_when_its_time_is_over(page: Page, bucket: Bucket) -> None:
    ref = bucket.put(KEY, BODY.encode())
    assert download(page, bucket.download_url(ref, ago=DOWNLOAD_URL - 30)) == BODY

    assert download(page, bucket.download_url(ref, ago=DOWNLOAD_URL + 1)).startswith("refused")


@pytest.fixture
def strict(request: pytest.FixtureRequest, bucket: Bucket) -> Bucket:
    """A bucket that also judges signatures and policies, as S3 does."""
    if bucket.engine == "s3rver":
        reason = "s3rver looks at no signature of version 4 and at no policy"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return bucket


def test_a_form_is_refused_when_its_time_is_over(page: Page, strict: Bucket) -> None:
    ref = ref_of(b"body")
    assert upload(page, strict.form(ref, ago=UPLOAD_URL + 1), "body").startswith("refused")
    assert strict.stored(KEY) is None


def test_a_url_for_one_key_opens_no_other(page: Page, strict: Bucket) -> None:
    strict.put(blob_key(BEN, "payload"), b"his")
    url = strict.download_url(strict.put(KEY, b"hers"))
    assert download(page, url) == "hers"

    assert download(page, url.replace(KEY, blob_key(BEN, "payload"))).startswith("refused")
    assert download(page, url.replace("Expires=300", "Expires=3000")).startswith("refused")
    assert download(page, url.replace("attachment", "inline")).startswith("refused")


TAMPERED: dict[str, Callable[[dict[str, str]], Any]] = {
    "another key": lambda fields: fields.update(key=blob_key(BEN, "payload")),
    "another type": lambda fields: fields.update({"Content-Type": "text/html"}),
    "another digest": lambda fields: fields.update({"x-amz-checksum-sha256": "x"}),
    "another signature": lambda fields: fields.update({"x-amz-signature": "0" * 64}),
    "one field more": lambda fields: fields.update(acl="public-read"),
    "no tag": lambda fields: fields.pop("tagging"),
    "no policy": lambda fields: fields.pop("policy"),
    "no digest": lambda fields: fields.pop("x-amz-checksum-sha256"),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_a_form_that_was_tampered_with_is_refused(
    page: Page, strict: Bucket, tamper: Callable[[dict[str, str]], Any]
) -> None:
    form = strict.form(ref_of(b"body"))
    tamper(form["fields"])

    assert upload(page, form, "body").startswith("refused")
    assert strict.stored(KEY) is None
    assert strict.stored(blob_key(BEN, "payload")) is None


@pytest.mark.parametrize("body", ["", "bod", "body and more"], ids=["empty", "shorter", "longer"])
def test_a_body_of_another_size_is_refused(page: Page, strict: Bucket, body: str) -> None:
    assert upload(page, strict.form(ref_of(b"body")), body).startswith("refused")
    assert strict.stored(KEY) is None


@dataclass
class Gateway:
    """Speaks with the client of one page as a gateway on AWS does, with bodies in the bucket.

    Attributes:
        heard: the commands.
    """

    bucket: Bucket
    answer: BlobRef
    heard: list[dict[str, Any]] = field(default_factory=list)

    def serve(self, socket: WebSocketRoute) -> None:
        def hear(text: str | bytes) -> None:
            command = orjson.loads(text)
            self.heard.append(command)
            for frame in getattr(self, command["type"])(command):
                socket.send(orjson.dumps(frame).decode())

        socket.on_message(hear)

    def hello(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        limits = {"command_bytes": 32_768, "content_bytes": 1_000_000, "live_runs": 4}
        return [READY | {"limits": limits}]

    def upload(self, command: dict[str, Any]) -> list[dict[str, Any]]:
        ref = BlobRef(key=KEY, bytes=command["bytes"], sha256=command["sha256"])
        form = self.bucket.form(ref)
        ready = {"type": "upload_ready", "id": command["id"], "upload_id": "u1", "method": "POST"}
        return [ready | form | {"expires_at": 1}]

    def send(self, command: dict[str, Any]) -> list[dict[str, Any]]:
        started = {"type": "started", "id": command["id"], "session_id": "s1"}
        started |= {"message_id": "m1", "reply_id": "r1"}
        accepted = {"type": "accepted", "id": command["id"], "run_id": "R"}
        payload = {"type": "payload", "of": "events", "url": self.bucket.download_url(self.answer)}
        payload |= {"bytes": self.answer.bytes, "sha256": self.answer.sha256, "run_id": "R"}
        return [
            accepted | {"session_id": "s1", "message_id": "m1"},
            events(1, started),
            payload | {"first_seq": 2, "last_seq": 3, "expires_at": 1},
        ]


READY = {
    "type": "ready",
    "connection_id": "c1",
    "connection_expires_at": 7_200_000,
    "user_id": "u1",
    "tenant_id": "t1",
    "tier": "free",
    "auth_expires_at": 3_600_000,
    "heartbeat_ms": 25_000,
    "server_time": 0,
    "runs": [],
}


def events(first: int, *those: dict[str, Any]) -> dict[str, Any]:
    last = first + len(those) - 1
    of_run = {"type": "events", "run_id": "R", "first_seq": first, "last_seq": last}
    return of_run | {"events": list(those)}


def test_the_client_uploads_and_fetches_there(page: Page, bucket: Bucket) -> None:
    done = {"type": "done", "reason": "stop", "message_id": "r1", "saved": True}
    spilled = orjson.dumps(events(2, {"type": "content.delta", "text": BODY}, done))
    gateway = Gateway(bucket, bucket.put(blob_key(ANNA, "answer"), spilled))
    page.route_web_socket(re.compile("/v1/ws"), gateway.serve)
    asked = "質問です。" * 5_000

    assert page.evaluate("(content) => ask(content)", asked) == BODY
    assert bucket.stored(KEY) == asked.encode()
    assert [each["type"] for each in gateway.heard] == ["hello", "upload", "send"]
    assert gateway.heard[-1]["upload_id"] == "u1"
