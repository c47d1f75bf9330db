"""The containers of docker-compose.yml, started as a user would and asked from outside.

The suite uses a project, addresses and volumes of its own, so it leaves alone what a developer may have
running. The image is built from the Dockerfile; without access to an image registry run
docker/stand-in-images first.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
from azure.iot.hub import IoTHubRegistryManager

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
SITE_PACKAGES = next((pathlib.Path(os.environ.get("VIRTUAL_ENV", ROOT / ".venv")) / "lib").glob("python3*/site-packages"))
PROJECT = "azimuth-test"
HUBS = ("contoso-east-hub", "contoso-west-hub")


def run(*command, check=True, timeout=120, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def docker(*words, **more):
    return run("docker", *words, **more).stdout


def compose_command():
    """Compose v2 where it is there, else docker-compose 1.29."""
    plugin = run("docker", "compose", "version", check=False).returncode == 0
    return ["docker", "compose"] if plugin else [shutil.which("docker-compose")]


class Compose:
    """A project of docker-compose.yml."""

    def __init__(self, project=PROJECT, **environment):
        self.project = project
        self.words = compose_command()
        self.environment = os.environ | {
            "AZIMUTH_DPS_ADDRESS": "127.0.0.50",
            "AZIMUTH_EAST_ADDRESS": "127.0.0.51",
            "AZIMUTH_WEST_ADDRESS": "127.0.0.52",
        } | environment

    def __call__(self, *words, **more):
        return run(*self.words, "-p", self.project, "-f", str(ROOT / "docker-compose.yml"), *words,
                   env=self.environment, cwd=ROOT, **more).stdout

    def container(self, service):
        return self("ps", "-q", service).split()[0]

    def azimuth(self, service, *words, **more):
        """A command of the program inside a service's container."""
        return docker("exec", self.container(service), "azimuth", *words, **more)

    def health(self, service):
        return docker("inspect", "-f", "{{.State.Health.Status}}", self.container(service)).strip()

    def healthy(self, *services, seconds=60):
        eventually(lambda: all(self.health(service) == "healthy" for service in services), seconds)

    def network(self, region):
        return f"{self.project}_{region}"

    def variables(self, *words):
        """What a shell has after `eval` of the printed block, and the CA as the block writes it."""
        folder = pathlib.Path(self.environment["TEST_FOLDER"])
        block = self.azimuth("dps", "env", *words)
        printed = run("bash", "-c", f"{block}\nenv -0", cwd=folder, env={"PATH": os.environ["PATH"]}).stdout
        return dict(line.split("=", 1) for line in printed.split("\0") if "=" in line)

    def registry(self, hub="contoso-east-hub"):
        """Azure's service SDK, from the host."""
        variables = self.variables("--hub", hub)
        os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = variables["SSL_CERT_FILE"]
        return IoTHubRegistryManager(variables["IOTHUB_CONNECTION_STRING"])

    def events(self, service, *words):
        return [json.loads(line) for line in
                self.azimuth(service, "events", "--from", "start", "--once", "--json", *words).splitlines()]

    def fleet(self, region, *words, name):
        """Starts a fleet of the test's own in a region, and returns its container."""
        service = f"device-sim-{region[:4]}"
        self("run", "-d", "--no-deps", "--name", name, service, "device-sim", "--json", *words)
        return name


def report(fleet, seconds=120):
    """The final report of a fleet, whose container is removed."""
    docker("wait", fleet, timeout=seconds)
    logs = run("docker", "logs", fleet)
    docker("rm", fleet)
    assert logs.stdout.strip(), f"no report: {logs.stderr[-2000:]}"
    return json.loads(logs.stdout[logs.stdout.index("{\n"):])


def eventually(condition, seconds=30):
    """The first true value of `condition`, which others must bring about in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def pytest_collection_modifyitems(items):
    """Two projects cannot have the same subnets: the tutorial runs before the shared one is there."""
    items.sort(key=lambda item: "compose" in item.fixturenames)


def build():
    """The image, from the Dockerfile."""
    Compose()("build", "dps", timeout=1800)


@pytest.fixture(scope="session")
def built():
    if "AZIMUTH_TEST_NO_BUILD" not in os.environ:
        build()


@pytest.fixture(scope="session")
def compose(tmp_path_factory, built):
    compose = Compose(TEST_FOLDER=str(tmp_path_factory.mktemp("containers")))
    compose("down", "-v", "--remove-orphans")
    compose("up", "-d", "hub-east", "hub-west", "dps", timeout=180)
    compose.healthy("hub-east", "hub-west", "dps")
    yield compose
    logs = pathlib.Path(os.environ.get("AZIMUTH_TEST_LOGS", compose.environment["TEST_FOLDER"]))
    (logs / "containers.log").write_text(run(*compose.words, "-p", PROJECT, "logs", "--no-color", cwd=ROOT,
                                             env=compose.environment).stdout)
    for name in docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}").split():
        docker("rm", "-f", name)
    compose("down", "-v", "--remove-orphans")


@pytest.fixture
def sdk(compose):
    """Runs Python in a container of a region with unmodified SDKs, the CA and nothing else of ours."""
    def python(region, program, **environment):
        variables = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        return docker(
            "run", "--rm", "--network", compose.network(region), "-v", f"{PROJECT}_connect:/connect:ro",
            "-v", f"{SITE_PACKAGES}:/site:ro", "-e", "PYTHONPATH=/site", "-e", "PYTHONDONTWRITEBYTECODE=1",
            "-e", "SSL_CERT_FILE=/connect/bundle.pem", *variables,
            "python:3.11-slim-bookworm", "python3", "-W", "ignore", "-c", program)
    return python


def secrets(compose):
    """Every key that was made at first start."""
    connect = docker("run", "--rm", "-v", f"{PROJECT}_connect:/connect:ro", "python:3.11-slim-bookworm",
                     "cat", "/connect/connect.json")
    return set(re.findall(r"SharedAccessKey=([^\"]+)", connect)) | {json.loads(connect)["dps"]["group"]["primary_key"]}
