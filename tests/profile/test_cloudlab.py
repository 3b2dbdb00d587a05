"""The profile's request, made by the real geni-lib."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.profile.geni_lib import NoGeniLibError, install

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "profile" / "cloudlab.py"
pytestmark = pytest.mark.slow  # a download, and a conversion

RSPEC = "{http://www.geni.net/resources/rspec/3}"
EMULAB = "{http://www.protogeni.net/resources/rspec/ext/emulab/1}"
DATASET = "urn:publicid:IDN+utah.cloudlab.us:some-project+ltdataset+criteo"
REPOSITORY = "https://example.org/cerebros_spark.git"


@pytest.fixture(scope="module")
def geni_lib(tmp_path_factory) -> Path:
    try:
        return install(tmp_path_factory.mktemp("geni"))
    except NoGeniLibError as error:
        pytest.skip(f"geni-lib can't be installed: {error}")


@pytest.fixture
def run(geni_lib, tmp_path):
    """Runs the profile as the portal does, with parameters in a file."""

    def run(**parameters: Any) -> subprocess.CompletedProcess[str]:
        asked = tmp_path / "parameters.json"
        asked.write_text(json.dumps(parameters))
        return subprocess.run(
            [sys.executable, "-W", "ignore", str(SCRIPT)],
            env={
                **os.environ,
                "PYTHONPATH": str(geni_lib),
                "GENILIB_PORTAL_MODE": "1",
                "GENILIB_PORTAL_REQUEST_PATH": str(tmp_path / "request.xml"),
                "GENILIB_PORTAL_PARAMS_PATH": str(asked),
                "GENILIB_PORTAL_DUMPPARAMS_PATH": "",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def request_of(run, tmp_path):
    def request_of(**parameters: Any) -> ET.Element:
        done = run(**parameters)
        assert done.returncode == 0, done.stderr
        return ET.parse(tmp_path / "request.xml").getroot()

    return request_of


def nodes(request: ET.Element) -> dict[str, ET.Element]:
    return {node.attrib["client_id"]: node for node in request.findall(f"{RSPEC}node")}


def command(node: ET.Element) -> str:
    (execute,) = node.iter(f"{RSPEC}execute")
    return execute.attrib["command"]


def test_by_default_it_is_a_master_and_two_workers_on_a_network(request_of):
    request = request_of()
    found = nodes(request)
    assert list(found) == ["master", "worker-0", "worker-1"]
    for number, node in enumerate(found.values(), 1):
        assert node.attrib["exclusive"] == "true"
        (image,) = node.iter(f"{RSPEC}disk_image")
        assert image.attrib["name"].endswith("//UBUNTU24-64-STD")
        (address,) = node.iter(f"{RSPEC}ip")
        assert (address.attrib["address"], address.attrib["netmask"]) == (
            f"10.10.1.{number}",
            "255.255.255.0",
        )
        assert not list(node.iter(f"{RSPEC}hardware_type"))
        assert not list(node.iter(f"{RSPEC}execute"))
        assert not list(node.iter(f"{EMULAB}routable_control_ip"))
    (link,) = request.findall(f"{RSPEC}link")
    assert len(link.findall(f"{RSPEC}interface_ref")) == 3
    (disk,) = request.iter(f"{EMULAB}blockstore")
    assert (disk.attrib["mountpoint"], disk.attrib["size"]) == ("/shared", "64GB")


def test_every_parameter_has_its_effect(request_of):
    request = request_of(
        workers=3,
        hardware="c220g5",
        masterHardware="c240g5",
        image="urn:publicid:IDN+emulab.net+image+mine//OWN",
        repository=REPOSITORY,
        branch="v1",
        dataset=DATASET,
        publicAddresses=True,
        sharedSize=7,
    )
    found = nodes(request)
    assert list(found) == ["master", "worker-0", "worker-1", "worker-2", "dataset"]
    store = found.pop("dataset")
    (disk,) = store.iter(f"{EMULAB}blockstore")
    assert disk.attrib["dataset"] == DATASET
    assert disk.attrib["readonly"] == "true"
    links = {link.attrib["client_id"]: link for link in request.findall(f"{RSPEC}link")}
    ends = [e.attrib["client_id"] for e in links["dataset-link"].iter(f"{RSPEC}interface_ref")]
    assert sorted(end.split(":")[0] for end in ends) == ["dataset", "master"]
    types = [node.find(f"{RSPEC}hardware_type").attrib["name"] for node in found.values()]
    assert types == ["c240g5", "c220g5", "c220g5", "c220g5"]
    for number, (name, node) in enumerate(found.items(), 1):
        assert list(node.iter(f"{EMULAB}routable_control_ip"))
        (image,) = node.iter(f"{RSPEC}disk_image")
        assert image.attrib["name"].endswith("//OWN")
        assert f"git clone --branch v1 {REPOSITORY} repository" in command(node)
        assert command(node).endswith(
            f"profile/bootstrap.sh {name.split('-')[0]} --address 10.10.1.{number} "
            "--master 10.10.1.1 --share /shared --share /data"
        )


def test_nothing_is_shared_unless_asked_for(request_of):
    request = request_of(shared=False, repository=REPOSITORY)
    assert not list(request.iter(f"{EMULAB}blockstore"))
    assert "--share" not in command(nodes(request)["master"])


def test_the_nodes_commands_are_understood_by_bootstrap(request_of):
    found = nodes(request_of(repository=REPOSITORY, dataset=DATASET))
    del found["dataset"]
    for node in found.values():
        assert not subprocess.run(["bash", "-n", "-c", command(node)]).returncode
        words = command(node).rpartition(" && ")[2].split()
        done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("workers", 0),
        ("dataset", "criteo"),
        ("repository", "https://x; rm -rf /"),
        ("sharedSize", 0),
    ],
)
def test_what_cannot_work_is_refused_by_name(run, name, wrong):
    done = run(**{name: wrong})
    assert done.returncode == 101
    (told,) = json.loads(done.stderr)
    assert told["params"] == [name]
