"""A device whose keys lie in a TPM 2.0: swtpm, driven with tpm2-tools. No key ever leaves it in the clear."""

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import time
import urllib.parse

import pytest

NEEDED = ["swtpm", "tpm2_createek", "tpm2_activatecredential", "tpm2_import", "tpm2_hmac"]
EK, SRK = "0x81010001", "0x81000001"
SRK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"


def require():
    missing = [program for program in NEEDED if not shutil.which(program)]
    if not missing:
        return
    sentence = f"{', '.join(missing)} not found: apt-get install swtpm swtpm-tools tpm2-tools"
    # Where they are installed for the tests, as in CI, their absence is a failure.
    if os.environ.get("AZIMUTH_TPM_TESTS") == "required":
        pytest.fail(sentence)
    pytest.skip(sentence)


def free_ports():
    """Two ports in a row: swtpm's TCTI expects the control channel behind the data channel."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            try:
                other.bind(("127.0.0.1", one.getsockname()[1] + 1))
                return one.getsockname()[1]
            except (OSError, OverflowError):
                continue


class Tpm:
    """A TPM of its own, with an endorsement key and a storage root key at their usual handles."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "state").mkdir()
        port = free_ports()
        self.process = subprocess.Popen([
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder / 'state'}",
            "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
            "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
            "--flags", "not-need-init,startup-clear"])
        self.environment = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}"}
        deadline = time.monotonic() + 20
        while self.tool("getrandom", "--hex", "1", check=False) is None:
            assert time.monotonic() < deadline, "swtpm does not answer"
            time.sleep(0.1)
        self.tool("createek", "-c", EK, "-G", "rsa", "-u", "ek.pub")
        self.take_ownership()

    def tool(self, name, *words, check=True):
        done = subprocess.run([f"tpm2_{name}", *words], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, timeout=60)
        if check:
            assert done.returncode == 0, f"tpm2_{name}: {done.stderr}"
        # There is no resource manager: what a tool leaves behind fills the TPM.
        if name != "flushcontext":
            self.tool("flushcontext", "-t", check=False)
        return done.stdout if done.returncode == 0 else None

    def take_ownership(self):
        """Makes the storage root key: another one than before, once the TPM was cleared."""
        self.tool("createprimary", "-C", "o", "-g", "sha256", "-G", "rsa2048", "-a", SRK_ATTRIBUTES, "-c", "srk.ctx")
        self.tool("evictcontrol", "-C", "o", "-c", "srk.ctx", SRK)

    def clear(self):
        self.tool("clear", "-c", "p")
        self.tool("createek", "-c", EK, "-G", "rsa", "-u", "ek.pub")
        self.take_ownership()

    def public(self, handle):
        self.tool("readpublic", "-c", handle, "-f", "tss", "-o", "public")
        return (self.folder / "public").read_bytes()

    @property
    def keys(self):
        """`tpm` as it stands in register and in enrollments."""
        return {"endorsementKey": base64.b64encode(self.public(EK)).decode(),
                "storageRootKey": base64.b64encode(self.public(SRK)).decode()}

    @property
    def registration_id(self):
        return base64.b32encode(hashlib.sha256(self.public(EK)).digest()).decode().lower().rstrip("=")

    def activate(self, authentication_key):
        """Opens a blob inside the TPM; its key signs from now on."""
        blob, parts = base64.b64decode(authentication_key), []
        while blob:
            end = 2 + int.from_bytes(blob[:2], "big")
            assert len(blob) >= end
            parts.append(blob[:end])
            blob = blob[end:]
        credential, secret, duplicate, seed, public, uri = parts
        assert len(uri) > 2
        for name, content in [("credential", bytes.fromhex("BADCC0DE00000001") + credential + secret),
                              ("duplicate", duplicate), ("seed", seed), ("key.pub", public)]:
            (self.folder / name).write_bytes(content)
        self.tool("startauthsession", "--policy-session", "-S", "session")
        self.tool("policysecret", "-S", "session", "-c", "e")
        self.tool("activatecredential", "-c", SRK, "-C", EK, "-i", "credential", "-o", "wrap", "-P", "session:session")
        self.tool("flushcontext", "session")
        self.tool("import", "-C", SRK, "-i", "duplicate", "-s", "seed", "-u", "key.pub", "-k", "wrap", "-r", "key.priv")
        self.tool("load", "-C", SRK, "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")

    def hmac(self, message):
        (self.folder / "message").write_bytes(message)
        self.tool("hmac", "-c", "key.ctx", "-o", "signature", "message")
        return (self.folder / "signature").read_bytes()

    def token(self, resource, policy=None, seconds=3600):
        """A shared access signature by the key that was activated last."""
        expiry = int(time.time()) + seconds
        resource = urllib.parse.quote(resource, safe="")
        signature = base64.b64encode(self.hmac(f"{resource}\n{expiry}".encode()))
        token = f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(signature, safe='')}&se={expiry}"
        return token + (f"&skn={policy}" if policy else "")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
