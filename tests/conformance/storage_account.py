"""A storage account for tests: the part of Azure's Blob service that containers with a shared access signature show.

It is strict where Azure is: the signature is worked out again, its permissions, start and end are kept, versions
and kinds of blobs must be told, blocks are no blob until their list is put. `azure-storage-blob`, which knows nothing
of it, makes the signatures and is the user who puts and gets the blobs.
"""

import base64
import datetime
import hashlib
import hmac
import http.server
import ssl
import threading
import urllib.parse
import xml.etree.ElementTree

from azure.storage.blob import ContainerClient, generate_container_sas

ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"a key of sixty-four bytes, as every storage account has two now.").decode()


class StorageAccount:
    def __init__(self, tls=None, host="127.0.0.1"):
        self.blobs, self.blocks, self.asked = {}, {}, []
        # What begins so waits for the event.
        self.holds = {}
        account = self

        class Handler(BlobService):
            service = account
        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://{host}:{self.server.server_port}/{ACCOUNT}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        for held in self.holds.values():
            held.set()
        self.server.shutdown()
        self.server.server_close()

    def container(self, name="box", permission="racwdl", hours=1):
        """The URI of a container as the portal or the client library gives it out."""
        expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)
        signed = generate_container_sas(ACCOUNT, name, KEY, permission=permission, expiry=expiry)
        return f"{self.url}/{name}?{signed}"

    def client(self, name="box"):
        return ContainerClient.from_container_url(self.container(name))

    def put(self, blob, text, name="box"):
        self.client(name).upload_blob(blob, text.encode() if isinstance(text, str) else text, overwrite=True)

    def get(self, blob, name="box"):
        return self.client(name).download_blob(blob).readall().decode()

    def hold(self, begins):
        self.holds[begins] = threading.Event()
        return self.holds[begins]


class BlobService(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = None

    def do_HEAD(self):
        self.answer(lambda: self.get(with_body=False))

    def do_GET(self):
        self.answer(self.get)

    def do_PUT(self):
        self.answer(self.put)

    def do_DELETE(self):
        self.answer(self.delete)

    def answer(self, serve):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        length = self.headers.get("Content-Length")
        self.body = self.rfile.read(int(length or 0))
        _, account, container, blob = urllib.parse.unquote(url.path).split("/", 3)
        self.name = (container, blob)
        what = f"{self.command} {blob} {self.query.get('comp', '')}".strip()
        self.service.asked.append(what)
        for begins, held in list(self.service.holds.items()):
            if what.startswith(begins):
                held.wait(60)
        if account != ACCOUNT or "Authorization" in self.headers:
            return self.refuse(403, "AuthenticationFailed")
        if self.command == "PUT" and length is None:
            return self.refuse(411, "MissingContentLengthHeader")
        if not "2012-02-12" <= self.headers.get("x-ms-version", "") <= "2027":
            return self.refuse(400, "InvalidHeaderValue")
        if not self.signature_is_right(container):
            return self.refuse(403, "AuthenticationFailed")
        allowing = {"HEAD": "r", "GET": "r", "PUT": "w" if self.name in self.service.blobs else "cw", "DELETE": "d"}
        if not set(self.query["sp"]) & set(allowing[self.command]):
            return self.refuse(403, "AuthorizationPermissionMismatch")
        serve()

    def signature_is_right(self, container):
        given = self.query
        fields = [given.get("sp", ""), given.get("st", ""), given.get("se", ""), f"/blob/{ACCOUNT}/{container}",
                  given.get("si", ""), given.get("sip", ""), given.get("spr", ""), given.get("sv", ""), given.get("sr", ""),
                  "", given.get("ses", ""), given.get("rscc", ""), given.get("rscd", ""), given.get("rsce", ""),
                  given.get("rscl", ""), given.get("rsct", "")]
        digest = hmac.new(base64.b64decode(KEY), "\n".join(fields).encode(), hashlib.sha256).digest()
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return base64.b64encode(digest).decode() == given.get("sig") and given.get("st", "") <= now < given.get("se", "")

    def get(self, with_body=True):
        blob = self.service.blobs.get(self.name)
        if blob is None:
            return self.refuse(404, "BlobNotFound")
        tag = f'"0x{hashlib.sha256(blob).hexdigest()[:15].upper()}"'
        if self.headers.get("If-Match", tag) != tag:
            return self.refuse(412, "ConditionNotMet")
        wanted = self.headers.get("x-ms-range") or self.headers.get("Range")
        more = {"ETag": tag, "Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT", "x-ms-blob-type": "BlockBlob",
                "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if not wanted or not with_body:
            return self.send(200, blob, more, with_body)
        first, last = wanted.removeprefix("bytes=").split("-")
        first = int(first)
        if first >= len(blob):
            return self.refuse(416, "InvalidRange")
        part = blob[first:int(last) + 1 if last else None]
        more["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(blob)}"
        self.send(206, part, more)

    def put(self):
        blobs, blocks, step = self.service.blobs, self.service.blocks, self.query.get("comp")
        if step == "block":
            base64.b64decode(self.query["blockid"], validate=True)
            if not self.body:
                return self.refuse(400, "InvalidHeaderValue")
            blocks[self.name, self.query["blockid"]] = self.body
        elif step == "blocklist":
            names = [element.text for element in xml.etree.ElementTree.fromstring(self.body)]
            if any((self.name, name) not in blocks for name in names):
                return self.refuse(400, "InvalidBlockList")
            blobs[self.name] = b"".join(blocks.pop((self.name, name)) for name in names)
        elif step is None and self.headers.get("x-ms-blob-type") == "BlockBlob":
            blobs[self.name] = self.body
        else:
            return self.refuse(400, "InvalidHeaderValue")
        self.send(201, b"", {"ETag": '"0x1"', "Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT"})

    def delete(self):
        if self.service.blobs.pop(self.name, None) is None:
            return self.refuse(404, "BlobNotFound")
        self.send(202, b"")

    def refuse(self, status, code):
        self.send(status, f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode(), {
            "x-ms-error-code": code, "Content-Type": "application/xml"}, self.command != "HEAD")

    def send(self, status, body, headers=(), with_body=True):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-ms-version", self.headers.get("x-ms-version", ""))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass
