"""Hosts with addresses of their own, each in a network namespace, on one bridge: what is cut off there is silent, as a host without
power is, not refused as on 127.0.0.1.  Wants root, ip and iptables.

    with Network() as network:
        network.place(node, 1)       # before it starts: it will run there, and node.host is its address
        network.cut(node)            # nothing gets in or out of it; heal() again"""
import os
import shutil
import subprocess

# A block for documentation (RFC 5737): nobody's real network.
SUBNET = "198.51.100"


def why_not():
    """What is missing for this, or None."""
    if os.geteuid() != 0:
        return "network namespaces want root"
    missing = [program for program in ("ip", "iptables") if not shutil.which(program)]
    if missing:
        return f"{' and '.join(missing)} missing"
    tried = subprocess.run(["ip", "link", "add", f"pgw{os.getpid() % 100000}t", "type", "bridge"], capture_output=True, check=False)
    if tried.returncode:
        return "no network may be made here"
    run("ip", "link", "del", f"pgw{os.getpid() % 100000}t")
    return None


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Network:
    """A namespace for each node, at .10 and up, and one more for the bridge between them and us, at .1: in the machine's own its
    firewall would judge what the nodes say to each other."""

    def __init__(self):
        self.name = f"pgw{os.getpid() % 100000}"
        self.spaces = {}

    def __enter__(self):
        hub = self.name + "hub"
        run("ip", "netns", "add", hub)
        run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "bridge", "up")
        self._plug(f"{self.name}a", None)
        run("ip", "addr", "add", f"{SUBNET}.1/24", "dev", f"{self.name}a")
        run("ip", "link", "set", f"{self.name}a", "up")
        return self

    def __exit__(self, *_):
        # Namespaces go when the kernel has time; the cable's name and address are to be free at once.
        subprocess.run(["ip", "link", "del", f"{self.name}a"], check=False)
        for space in [*self.spaces.values(), self.name + "hub"]:
            subprocess.run(["ip", "netns", "del", space], check=False)

    def _plug(self, end, space):
        """A cable from the bridge to `end` in that namespace."""
        hub = self.name + "hub"
        run("ip", "-n", hub, "link", "add", f"{end}p", "type", "veth", "peer", "name", end)
        run("ip", "-n", hub, "link", "set", f"{end}p", "master", "bridge", "up")
        run("ip", "-n", hub, "link", "set", end, "netns", space or "1")

    def place(self, node, number):
        space, end = f"{self.name}n{number}", f"{self.name}w{number}"
        run("ip", "netns", "add", space)
        self.spaces[node] = space
        self._plug(end, space)
        self._inside(node, "ip", "link", "set", "lo", "up")
        self._inside(node, "ip", "addr", "add", f"{SUBNET}.{9 + number}/24", "dev", end)
        self._inside(node, "ip", "link", "set", end, "up")
        node.host = f"{SUBNET}.{9 + number}"
        node.runner = ("ip", "netns", "exec", space)

    def _inside(self, node, *command):
        run("ip", "netns", "exec", self.spaces[node], *command)

    def cut(self, node, peer=f"{SUBNET}.0/24"):
        """Drops what goes between the node and the peer, an address or all."""
        self._inside(node, "iptables", "-A", "INPUT", "-s", peer, "-j", "DROP")
        self._inside(node, "iptables", "-A", "OUTPUT", "-d", peer, "-j", "DROP")

    def heal(self, node):
        self._inside(node, "iptables", "-F")
