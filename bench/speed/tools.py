"""What the peers need, set up where it is missing: packages of Debian, npm and PyPI, in folders that git ignores."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
INSTALLED = Path(".bench/peers").resolve()
MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))


class Unavailable(Exception):
    """A peer cannot be set up here; the text says what is missing."""


def nginx() -> Path:
    """The server itself. Raises Unavailable."""
    if find("nginx") is None:
        _apt("nginx")
    path = find("nginx")
    if path is None:
        raise Unavailable("nginx; on Debian and Ubuntu: apt-get install nginx")
    return path


def njs() -> Path:
    """Its module for JavaScript. Raises Unavailable."""
    nginx()
    if _module() is None:
        _apt("libnginx-mod-http-js")
    path = _module()
    if path is None:
        raise Unavailable("njs; on Debian and Ubuntu: apt-get install libnginx-mod-http-js")
    return path


def fastify() -> Path:
    """A folder with the Fastify peer and all that its lock names. Raises Unavailable."""
    node, npm = find("node"), find("npm")
    if node is None or npm is None:
        raise Unavailable("node and npm, 20.18.1 or newer")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    return _installed("fastify", lambda folder: _ran(command, folder))


def fastapi() -> Path:
    """A folder with the FastAPI peer, and in it a virtual environment with all that its lock names."""

    def install(folder: Path) -> None:
        _ran([sys.executable, "-m", "venv", "venv"], folder)
        pip = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        _ran([*pip, "--no-deps", "--require-hashes", "-r", "requirements.lock"], folder)

    # An environment serves the one Python that it was made with.
    return _installed("fastapi", install, f"{sys.base_prefix} {sys.version}")


def _installed(name: str, install: Callable[[Path], None], on: str = "") -> Path:
    """Copy a peer and install what it needs, unless the very same was installed before."""
    source, folder = PEERS / name, INSTALLED / name
    files = sorted(each for each in source.iterdir() if each.is_file())
    digest = hashlib.sha256(b"".join([on.encode(), *(each.read_bytes() for each in files)])).hexdigest()
    mark = folder / ".installed"
    if mark.exists() and mark.read_text(encoding="ascii") == digest:
        return folder
    print(f"installing what {name} needs", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for each in files:
        shutil.copy(each, folder)
    install(folder)
    mark.write_text(digest, encoding="ascii")
    return folder


def find(program: str) -> Path | None:
    """Where a program is, if it is installed."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _module() -> Path | None:
    found = [folder / "ngx_http_js_module.so" for folder in MODULES]
    return next((each for each in found if each.exists()), None)


def _apt(package: str) -> None:
    """Install a package of Debian, where that is ours to do. A server that the package starts is stopped again."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"installing {package}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", package]):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


def _ran(command: Sequence[str | Path], folder: Path) -> None:
    done = subprocess.run([str(each) for each in command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
