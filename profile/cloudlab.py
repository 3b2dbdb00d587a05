"""A Spark standalone cluster on CloudLab for cerebros_spark: a master and workers on a LAN.

Instructions:
Each node installs the project on its first boot, which takes some minutes; see
`/local/cerebros/bootstrap.log`. Then, on the master:

    cd /local/cerebros/repository
    scripts/cluster status --folder /local/cerebros/cluster
    scripts/submit --folder /local/cerebros/cluster \
        --python /local/cerebros/repository/.venv/bin/python \
        scripts/quickstart.py --folder /shared/runs

Without the address of a repository nothing is installed: copy the project to each node, as
`/local/cerebros/repository`, and run its `profile/bootstrap.sh` there (see docs/clusters.md).
"""

# The portal may run this with Python 2 or 3. In the repository the name profile.py would hide the
# standard library's module; the portal accepts any name.

import re

import geni.portal as portal
import geni.rspec.igext  # noqa: F401  (adds Blockstore and RemoteBlockstore)
import geni.rspec.pg as pg

IMAGE = "urn:publicid:IDN+emulab.net+image+emulab-ops//UBUNTU24-64-STD"
NETWORK = "10.10.1."
NETMASK = "255.255.255.0"
FOLDER = "/local/cerebros"
SHARED = "/shared"
DATA = "/data"
MOST_WORKERS = 200


def define(context):
    """Define the parameters of the portal's form."""
    kinds = portal.ParameterType
    context.defineParameter("workers", "Number of workers", kinds.INTEGER, 2)
    context.defineParameter(
        "hardware",
        "Hardware type of the workers",
        kinds.NODETYPE,
        "",
        longDescription="Any type if empty. Choose one that is free on the cluster.",
    )
    context.defineParameter(
        "masterHardware",
        "Hardware type of the master",
        kinds.NODETYPE,
        "",
        longDescription="The type of the workers if empty.",
    )
    context.defineParameter(
        "image",
        "Disk image",
        kinds.IMAGE,
        IMAGE,
        longDescription="An Ubuntu with python3 3.12 or 3.13, such as 24.04.",
    )
    context.defineParameter(
        "repository",
        "Repository of the project",
        kinds.STRING,
        "",
        longDescription="An argument of `git clone`. Nothing is installed if empty.",
    )
    context.defineParameter("branch", "Branch or tag of the repository", kinds.STRING, "main")
    context.defineParameter(
        "shared",
        "Share " + SHARED + " by NFS",
        kinds.BOOLEAN,
        True,
        longDescription="A folder of the master that all nodes mount: the store of searches.",
    )
    context.defineParameter(
        "sharedSize", "Size of " + SHARED + " in GB", kinds.INTEGER, 64, advanced=True
    )
    context.defineParameter(
        "dataset",
        "Long-term data set",
        kinds.STRING,
        "",
        longDescription="Its URN, as on the data set's page. The master mounts it at "
        + DATA
        + " and "
        "shares it with the workers by NFS.",
    )
    context.defineParameter(
        "datasetReadOnly",
        "Mount the data set read-only",
        kinds.BOOLEAN,
        True,
        longDescription="Several experiments can then use it at once.",
        advanced=True,
    )
    context.defineParameter(
        "publicAddresses",
        "Public addresses for the nodes",
        kinds.BOOLEAN,
        False,
        longDescription="Spark listens only on the LAN in any case.",
        advanced=True,
    )


def check(context, params):
    """Report invalid parameters to the portal."""

    def refuse(message, name):
        context.reportError(portal.ParameterError(message, [name]))

    if not 1 <= params.workers <= MOST_WORKERS:
        refuse("workers must be from 1 to " + str(MOST_WORKERS), "workers")
    if params.sharedSize < 1:
        refuse("the shared folder needs at least 1 GB", "sharedSize")
    if params.dataset and not re.match(r"^urn:publicid:IDN\+\S+dataset\+\S+$", params.dataset):
        refuse("a data set is named by its URN, urn:publicid:IDN+...dataset+NAME", "dataset")
    # These become part of a command.
    for name in ("repository", "branch"):
        if not re.match(r"^[\w@:/.~+-]*$", getattr(params, name)):
            refuse(name + " may hold letters, digits and @ : / . ~ + - _ only", name)
    if params.repository and not params.branch:
        refuse("name a branch or a tag", "branch")
    context.verifyParameters()


def add_node(request, params, lan, number):
    """Return a new node on the LAN; number 0 is the master."""
    role = "worker" if number else "master"
    node = request.RawPC("worker-" + str(number - 1) if number else "master")
    node.disk_image = params.image
    hardware = params.hardware if number else params.masterHardware or params.hardware
    if hardware:
        node.hardware_type = hardware
    if params.publicAddresses:
        node.routable_control_ip = True
    address = NETWORK + str(number + 1)
    lan.addInterface(node.addInterface("lan0", pg.IPv4Address(address, NETMASK)))
    if params.repository:
        node.addService(pg.Execute(shell="bash", command=command(params, role, address)))
    return node


def command(params, role, address):
    """Return the command that a node runs at each boot as the experiment's owner."""
    words = ["profile/bootstrap.sh", role, "--address", address, "--master", NETWORK + "1"]
    if params.shared:
        words += ["--share", SHARED]
    if params.dataset:
        words += ["--share", DATA]
    steps = [
        'sudo install -d -o "$(id -un)" ' + FOLDER,
        "cd " + FOLDER,
        "exec >>bootstrap.log 2>&1",
        "([ -d repository ] || git clone --branch {} {} repository)".format(
            params.branch, params.repository
        ),
        "cd repository",
        " ".join(words),
    ]
    return " && ".join(steps)


def add_dataset(request, params, master):
    """Add the data set's machine, and its link to the master."""
    machine = request.RemoteBlockstore("dataset", DATA)
    machine.dataset = params.dataset
    machine.readonly = params.datasetReadOnly
    link = request.Link("dataset-link")
    link.addInterface(machine.interface)
    link.addInterface(master.addInterface("data0"))
    # Data sets are only reachable on such links.
    link.best_effort = True
    link.vlan_tagging = True
    link.link_multiplexing = True


def main():
    """Print the request."""
    context = portal.Context()
    define(context)
    params = context.bindParameters()
    check(context, params)
    request = context.makeRequestRSpec()
    lan = request.LAN("lan")
    lan.best_effort = True
    lan.vlan_tagging = True
    lan.link_multiplexing = True
    master = add_node(request, params, lan, 0)
    for number in range(params.workers):
        add_node(request, params, lan, number + 1)
    if params.shared:
        disk = master.Blockstore("shared", SHARED)
        disk.size = str(params.sharedSize) + "GB"
    if params.dataset:
        add_dataset(request, params, master)
    context.printRequestRSpec(request)


main()
