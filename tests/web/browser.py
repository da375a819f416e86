"""A real Chromium without a screen, told what to do over its debugging pipe (no driver, no library).

DAGTEL_TEST_CHROMIUM names the program; else `chromium` is looked for. Source: the Chrome DevTools Protocol.
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

PROGRAM = os.environ.get("DAGTEL_TEST_CHROMIUM") or shutil.which("chromium") or ""
SECONDS = 240


class Browser:
    """One tab of a phone's size. `failures` are requests and styles that the page's policy blocked."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = os.fdopen(reads, "rb", 0), os.fdopen(writes, "wb", 0)
        self._ids, self._rest = itertools.count(1), b""
        self.events: list[dict[str, Any]] = []
        tab = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": tab, "flatten": True})["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        size = {"width": 390, "height": 780, "deviceScaleFactor": 2, "mobile": True}
        self.call("Emulation.setDeviceMetricsOverride", size)

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """One command of the protocol, to the tab."""
        return self._call(method, parameters or {}, self._session)

    def _call(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        id = next(self._ids)
        sent = {"id": id, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        self._writes.write(json.dumps(sent).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == id:
                assert "error" not in message, message
                return cast("dict[str, Any]", message["result"])
            self.events.append(message)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._reads.read(65536)
            assert chunk, "the browser is gone"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return cast("dict[str, Any]", json.loads(message))

    def run(self, script: str) -> Any:
        """What a script gives, run in the page."""
        given = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True})
        assert "exceptionDetails" not in given, given
        return given["result"].get("value")

    def go(self, url: str) -> None:
        """Open a page, and wait until it is shown."""
        self.call("Page.navigate", {"url": url})
        self.until("location.href != 'about:blank' && document.readyState == 'complete'")

    def until(self, script: str) -> None:
        """Wait until it is true in the page that is shown."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                if self.run(script):
                    return
            except AssertionError:  # between two pages there is none
                pass
            time.sleep(0.05)
        raise AssertionError(f"not in {SECONDS} s: {script}")

    def paint(self, dark: bool) -> None:
        """By day or by night."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [feature]})

    def photograph(self, file: Path) -> None:
        """What is on the screen, as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    @property
    def complaints(self) -> list[str]:
        """What the browser put into its console: blocked styles and requests, errors of scripts."""
        entries = [event["params"]["entry"] for event in self.events if event.get("method") == "Log.entryAdded"]
        return [entry["text"] for entry in entries if "favicon" not in entry.get("url", "")]


@contextmanager
def a_browser() -> Iterator[Browser]:
    """A browser with a profile of its own, for as long as the block."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = f"--headless --no-sandbox --disable-gpu --no-first-run --user-data-dir={profile}"
        script = f'exec "$0" {options} --remote-debugging-pipe 3<&{to_read} 4>&{from_write}'
        null = subprocess.DEVNULL
        started = subprocess.Popen(
            ["bash", "-c", script, PROGRAM], pass_fds=(to_read, from_write), stdout=null, stderr=null
        )
        os.close(to_read)
        os.close(from_write)
        browser = Browser(from_read, to_write)
        try:
            yield browser
        finally:
            browser._reads.close()
            browser._writes.close()
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
