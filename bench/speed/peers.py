"""Others that do the same work against the same upstream, each as its own users would set it up."""

import contextlib
import functools
import grp
import json
import os
import pwd
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.speed import tools
from bench.speed.box import ORGANISATION, TOKEN
from bench.speed.contender import CUSTOMER, Contender, Running, Scenario, Setting, direct_steps
from bench.speed.gateways import free_port
from bench.speed.harness import answers, process, wait_for
from bench.speed.keys import ISSUER, PARTNER

PING = "/_ping"
MIME = Path("/etc/nginx/mime.types")


def told(setting: Setting, folder: Path, port: int) -> dict[str, object]:
    """What a peer has to know: the same as stands in the gateway's grants and settings."""
    public = setting.keys.public.read_text(encoding="ascii")
    grant = {
        "partner": PARTNER,
        "organisation": ORGANISATION,
        "operations": ["read", "change", "cancel"],
        "labels": ["GENERAL_HEALTH"],
        "reasons": ["pat", "pat-crs", "other"],
    }
    return {
        "port": port,
        "upstream": setting.upstream.port,
        "issuer": ISSUER,
        "publicKey": public,
        "spki": "".join(public.splitlines()[1:-1]),
        "grants": {CUSTOMER: grant},
        "log": str(folder / "peer.log"),
        "audit": str(folder / "audit.jsonl"),
        "durable": False,
    }


def _preloaded(value: Any) -> Any:
    """Lists as objects: an array that njs has preloaded cannot be searched."""
    if isinstance(value, list):
        return dict.fromkeys(value, True)
    return {name: _preloaded(each) for name, each in value.items()} if isinstance(value, dict) else value


def _place(setting: Setting, name: str) -> Path:
    folder = setting.folder / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def _serving(
    setting: Setting, command: Sequence[str | Path], port: int, folder: Path, config: Path | None = None
) -> Iterator[Running]:
    log = folder / "out.log"
    environment = {} if config is None else {"PEER_CONFIG": str(config)}
    with process(command, setting.cores.measured, log, environment=environment) as started:
        wait_for(lambda: answers(port, PING), started, log)
        yield Running(started.pid, port, log=log, folder=folder)


@contextlib.contextmanager
def _nginx(setting: Setting, *, name: str, remembers: bool = False) -> Iterator[Running]:
    program, port = tools.nginx(), free_port()
    folder, source = _place(setting, name), tools.PEERS / "nginx"
    words: dict[str, object] = {
        "folder": folder,
        "port": port,
        "upstream": setting.upstream.port,
        "token": TOKEN,
        "mime": MIME,
    }
    if name == "njs":
        words["module"] = tools.njs()
        (folder / "peer.js").write_bytes((source / "peer.js").read_bytes())
        (folder / "told.json").write_text(
            json.dumps(_preloaded({**told(setting, folder, port), "remembers": remembers})), encoding="ascii"
        )
    # The folder is ours alone, and a server that root starts would work as somebody else.
    words["user"] = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
    text = (source / ("peer.conf" if name == "njs" else "proxy.conf")).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = [program, "-p", f"{folder}/", "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    with _serving(setting, command, port, folder) as running:
        yield running


@contextlib.contextmanager
def _configured(setting: Setting, *, name: str, durable: bool = False) -> Iterator[Running]:
    folder, port = _place(setting, name), free_port()
    config = folder / "told.json"
    config.write_text(json.dumps({**told(setting, folder, port), "durable": durable}), encoding="ascii")
    with _serving(setting, _command(name), port, folder, config) as running:
        yield running


def _command(name: str) -> Sequence[str | Path]:
    match name:
        case "fastapi":
            return [tools.fastapi() / "venv/bin/python", tools.fastapi() / "app.py"]
        case "fastify":
            return ["node", tools.fastify() / "server.js"]
        case _:
            return [sys.executable, tools.PEERS / f"{name}.py"]


@contextlib.contextmanager
def _hello(setting: Setting) -> Iterator[Running]:
    folder, port = _place(setting, "hello"), free_port()
    command = [sys.executable, tools.PEERS / "hello.py", str(port), "uvloop"]
    with _serving(setting, command, port, folder) as running:
        yield running


SAME = (Scenario.CANCEL, Scenario.READ, Scenario.REFUSAL)
NJS = Contender("njs", "nginx + njs, access log", functools.partial(_nginx, name="njs"), SAME, needs=tools.njs)
REMEMBERING = Contender(
    "njs-cache",
    "nginx + njs, verdicts on tokens cached by proxy_cache",
    functools.partial(_nginx, name="njs", remembers=True),
    SAME,
    needs=tools.njs,
)
PROXY = Contender(
    "proxy_pass",
    "nginx proxy_pass alone (one request passed on, nothing checked)",
    functools.partial(_nginx, name="proxy"),
    (Scenario.CANCEL, Scenario.READ),
    judged=False,
    asks=direct_steps,
    needs=tools.nginx,
)
FASTIFY = Contender(
    "fastify", "Fastify, buffered log", functools.partial(_configured, name="fastify"), SAME, needs=tools.fastify
)
DURABLE = Contender(
    "fastify-durable",
    "Fastify, waits for fdatasync",
    functools.partial(_configured, name="fastify", durable=True),
    SAME,
    durable=True,
    needs=tools.fastify,
)
FASTAPI = Contender(
    "fastapi", "FastAPI + httpx + PyJWT", functools.partial(_configured, name="fastapi"), SAME, needs=tools.fastapi
)
BARE = Contender(
    "bare",
    "aiohttp and PyJWT alone, waits for fdatasync",
    functools.partial(_configured, name="bare", durable=True),
    SAME,
    durable=True,
)
HELLO = Contender("hello", "aiohttp hello", _hello, (Scenario.HELLO,), judged=False)
