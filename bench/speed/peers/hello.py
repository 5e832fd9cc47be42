"""The least that an aiohttp server can do: python hello.py PORT."""

import asyncio
import sys

from aiohttp import web


async def hello(_: web.Request) -> web.Response:
    """Answer."""
    return web.json_response({"hello": "world"})


def main() -> None:
    """Serve."""
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/_ping", hello)
    loop = None
    if "uvloop" in sys.argv:
        import uvloop  # noqa: PLC0415 - only where it is asked for

        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
