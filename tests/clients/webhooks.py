"""The specification's own library for Python reads what Tollgate sends."""

import json
import os
import queue
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

URL = os.environ["TOLLGATE_URL"]
ADMIN, OWNER, TENANT = (os.environ[name] for name in ("TOLLGATE_TOKEN", "TOLLGATE_OWN_TOKEN", "TOLLGATE_TENANT"))

came = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        came.put((body, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()


def call(path, token, body=None):
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method="POST")) as answer:
        return json.load(answer)


def refused(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return
    raise AssertionError("it was verified")


address = f"http://127.0.0.1:{server.server_port}/hook"
hook = call("/v1/webhooks", OWNER, {"url": address, "events": ["tenant.suspended", "tenant.activated"]})
call(f"/admin/v1/tenants/{TENANT}/suspend", ADMIN)
body, headers = came.get(timeout=30)
event = Webhook(hook["secret"]).verify(body, headers)
assert event["type"] == "tenant.suspended" and event["data"]["tenant_id"] == TENANT, event
refused("whsec_" + "A" * 43 + "=", body, headers)
refused(hook["secret"], body.replace("suspended", "activated"), headers)
refused(hook["secret"], body, {**headers, "webhook-id": "another"})

renewed = call(f"/admin/v1/webhooks/{hook['webhook_id']}/secret", ADMIN, {})
call(f"/admin/v1/tenants/{TENANT}/activate", ADMIN)
body, headers = came.get(timeout=30)
for secret in (hook["secret"], renewed["secret"]):
    assert Webhook(secret).verify(body, headers)["type"] == "tenant.activated"
