"""The programs to compare with, from Debian. Their packages start services; here they only bring programs."""
import os, shutil, subprocess, sys

from processes import Trouble

# Where services are started on installation, unless this file says no (Debian's invoke-rc.d).
POLICY = "/usr/sbin/policy-rc.d"


def provide(wanted):
    """`wanted`: programs and the packages they are in. Installs what is missing, and says so."""
    packages = sorted({package for program, package in wanted.items() if not shutil.which(program)})
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Trouble(f"missing: {', '.join(packages)}. As root: {' '.join(command)}\n"
                      "Or leave peers out, as with --without etcd,redis-cluster.")
    print(f"bench: installing {', '.join(packages)} with apt-get, without starting services", file=sys.stderr)
    no_policy = not os.path.exists(POLICY)
    try:
        if no_policy:
            with open(POLICY, "w") as policy:
                policy.write("#!/bin/sh\nexit 101\n")
            os.chmod(POLICY, 0o755)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        if subprocess.run(command, **quiet).returncode:
            subprocess.run(["apt-get", "update"], **quiet)
            subprocess.run(command, check=True, **quiet)
    except subprocess.CalledProcessError as error:
        raise Trouble(f"{' '.join(command)} failed with {error.returncode}")
    finally:
        if no_policy:
            os.remove(POLICY)
