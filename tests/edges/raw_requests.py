"""HTTP requests as bytes, well formed or not."""


def head(first: str, *lines: str, host: str = "Host: gateway") -> bytes:
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def get(*lines: str, target: str = "/x", version: str = "HTTP/1.1", host: str = "Host: gateway") -> bytes:
    return head(f"GET {target} {version}", *lines, host=host)


def post(*lines: str, body: bytes = b"", target: str = "/echo") -> bytes:
    return head(f"POST {target} HTTP/1.1", *lines) + body


CHUNKED = "Transfer-Encoding: chunked"
