"""Certificates of an authority of the test's own, made by openssl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.redis_servers import missing

__all__ = ("Authority", "Certificate")


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Signs certificates for the loopback address; `file` is what those who trust it name."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._name = name
        self._own = self._made(name, "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.file: str = self._own.certificate

    def signs(self, name: str, *alternatives: str) -> Certificate:
        """Return a certificate for a name, with alternatives such as `IP:127.0.0.1`."""
        extra = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        signed_by = ("-CA", self._own.certificate, "-CAkey", self._own.key)
        end = ("-addext", "basicConstraints=critical,CA:FALSE")
        return self._made(f"{self._name}-{name}", "-subj", f"/CN={name}", *signed_by, *extra, *end)

    def _made(self, name: str, *options: str) -> Certificate:
        openssl = shutil.which("openssl")
        if openssl is None:
            missing("openssl not found; Debian has it: apt-get install openssl")
        key, certificate = self._directory / f"{name}.key", self._directory / f"{name}.pem"
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
        command = (openssl, "req", "-x509", *new, "-keyout", str(key), "-out", str(certificate), *options)
        subprocess.run(command, check=True, capture_output=True, timeout=20)
        key.chmod(0o600)
        return Certificate(str(certificate), str(key))
