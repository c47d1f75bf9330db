#!/usr/bin/env python3
"""A webhook of custom allocation: toasters go to the west, everything else to the first hub offered.

Run it with `python3 docs/webhook.py 7071` and give an enrollment
    "allocationPolicy": "custom",
    "customAllocationDefinition": {"webhookUrl": "http://localhost:7071/", "apiVersion": "2021-10-01"}
The same answers come from a function in Azure, at an https:// URL.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def allocate(request):
    """The answer to one registration: a hub of `linkedHubs`, and what the device is told."""
    context, hubs = request["deviceRuntimeContext"], request["linkedHubs"]
    payload = context.get("payload")
    model = payload.get("model") if isinstance(payload, dict) else None
    west = [hub for hub in hubs if "west" in hub]
    hub = west[0] if model == "toaster" and west else hubs[0]
    return {"iotHubHostName": hub, "payload": {"model": model, "hub": hub}}


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps(allocate(json.loads(body))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 7071), Webhook)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
