"""A page of another site, in a real browser: it reads nothing of this one, does nothing on it, and does not frame it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ATTACK = """<!doctype html><title>elsewhere</title><iframe id="frame" src="URL"></iframe><script>
const body = JSON.stringify({data: ["from elsewhere"], fn_index: 0, session_hash: "elsewhere"});
const tries = {
  json: () => fetch("URLgradio_api/run/predict", {method: "POST", credentials: "include",
    headers: {"content-type": "application/json", "x-forwarded-host": location.host}, body}),
  plain: () => fetch("URLgradio_api/run/predict", {method: "POST", credentials: "include", headers: {"content-type": "text/plain"}, body}),
  read: () => fetch("URLconfig", {credentials: "include"}),
};
window.came = {};
(async () => {
  for (const [name, go] of Object.entries(tries)) {
    try { const answer = await go(); window.came[name] = answer.type + answer.status; } catch (error) { window.came[name] = "refused"; }
  }
  window.done = true;
})();
</script>"""


@pytest.fixture
def elsewhere(served):
    """The URL of another site's page, which attacks `served`."""
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(ATTACK.replace("URL", served).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://evil.localhost:{server.server_port}/"
        server.shutdown()


def test_another_site_reads_does_and_frames_nothing(visit, served, elsewhere):
    page = visit(elsewhere)
    statuses = {}
    page.on("response", lambda answer: statuses.setdefault(answer.url, answer.status))
    page.reload()
    page.wait_for_function("() => window.done")
    assert json.loads(page.evaluate("JSON.stringify(window.came)")) == dict.fromkeys(("json", "plain", "read"), "refused")
    assert statuses.get(f"{served}gradio_api/run/predict", 403) in (403, 404)
    frame = next(frame for frame in page.frames if frame != page.main_frame)
    page.wait_for_timeout(1000)
    assert not frame.url.startswith(served) or not frame.query_selector("gradio-app, #sentence")


def test_a_name_that_leads_here_but_is_not_the_pages_shows_nothing(visit, served):
    """As DNS rebinding would have it."""
    page = visit(served.replace("127.0.0.1", "monju.localhost"))
    assert "MONJU_HOSTS" in page.inner_text("body") and not page.query_selector("#sentence")
