"""Keys and certificates of a test session: one authority, a server, the proxy, a client, and an authority nobody trusts."""
import shutil
import subprocess

DAYS = "30"


class Authority:
    """A folder with ca.crt and what it signed.  Keys are readable by the server account only."""

    def __init__(self, workspace, name="tls"):
        self.workspace = workspace
        self.folder = workspace.folder(name)
        self.ca = self.folder / "ca.crt"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                      self.folder / "ca.key", "-out", self.ca, "-days", DAYS, "-subj", f"/CN=pgweir {name} authority")
        self._publish(self.ca, self.folder / "ca.key")

    def issue(self, name, common_name=None, hosts=("DNS:localhost", "IP:127.0.0.1")):
        """Makes NAME.crt and NAME.key; returns both paths."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        extensions = self.workspace.write(self.folder / f"{name}.ext", f"subjectAltName={','.join(hosts)}\n")
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                      "-out", request, "-subj", f"/CN={common_name or name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
                      "-out", certificate, "-days", DAYS, "-extfile", extensions)
        self._publish(certificate, key)
        return certificate, key

    def private_copy(self, key):
        """A copy of a key for the account that runs the tests: libpq refuses keys that others own."""
        copy = key.with_suffix(".mine")
        shutil.copyfile(key, copy)
        copy.chmod(0o600)
        return copy

    def _publish(self, certificate, key):
        certificate.chmod(0o644)
        key.chmod(0o600)
        self.workspace.own(certificate)
        self.workspace.own(key)

    @staticmethod
    def _openssl(*arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
