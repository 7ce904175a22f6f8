"""The versions that figures stand for."""

import importlib.metadata
import os
import sys

# On a machine without network the tools that are there must do: then figures are told with what `found` says.
ANY = "RELPROP_PEERS_ANY_VERSION"


def found(package):
    return importlib.metadata.version(package).split("+")[0]


def check(wanted):
    """Ends the program where a package has another version, unless the environment allows any."""
    for package, version in wanted.items():
        if found(package) != version and not os.environ.get(ANY):
            sys.exit(f"{package} is {found(package)}, not {version}; {ANY}=1 takes it all the same")
