"""The parts of aiohttp the HTTP edge stands on. When one of these fails after an upgrade, read protocol.py again."""

import inspect

import aiohttp
from aiohttp import web, web_protocol, web_request, web_server
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, MAX_MSG_QUEUE_SIZE, RequestHandler, _ErrInfo
from aiohttp.web_server import Server

import gateway.partner.protocol as edge


def names(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_aiohttp_is_of_the_release_line_that_was_read() -> None:
    assert aiohttp.__version__.startswith("3.14.")


def test_every_method_replaced_is_still_called_with_the_same_arguments() -> None:
    replaced = {name for name, value in vars(edge.PartnerProtocol).items() if inspect.isfunction(value)}
    own = {name for name in replaced if not hasattr(RequestHandler, name)}
    assert replaced - own == {
        "__init__",
        "_make_error_handler",
        "connection_lost",
        "connection_made",
        "data_received",
        "eof_received",
        "finish_response",
        "handle_error",
        "pause_writing",
        "resume_writing",
    }
    for name in replaced - own - {"__init__"}:
        assert names(getattr(edge.PartnerProtocol, name)) == names(getattr(RequestHandler, name)), name
    assert names(edge.PartnerServer._take_in)[1:] == names(Server._make_request)[1:]
    assert names(edge.AnswerWriter.write_headers) == names(StreamWriter.write_headers)
    assert names(edge.ExactMethodParser.parse_message) == names(HttpRequestParserPy.parse_message)


def test_no_new_attribute_hides_one_of_aiohttps() -> None:
    made = {"_edge", "_latest", "_broken", "_refused", "_ended", "_late", "_stuck", "_discarding", "_discarded"}
    made |= {"_room", "_server", "peer", "is_idle", "is_stuck", "cut_off", "_receive", "_parse", "_turned_away"}
    assert not made & ({*RequestHandler.__slots__, *BaseProtocol.__slots__} | set(dir(RequestHandler)))


def test_no_new_attribute_of_a_request_hides_one_of_aiohttps() -> None:
    assert not {"caller", "proven"} & {*dir(web.BaseRequest), *web.BaseRequest.ATTRS}


def test_the_attributes_leaned_on_are_still_there() -> None:
    slots = {*RequestHandler.__slots__, *BaseProtocol.__slots__}
    assert slots >= {"_waiter", "_messages", "_max_msg_queue_size", "_read_bufsize", "_force_close", "_parser", "_loop"}
    assert slots >= {"_keepalive", "_next_keepalive_close_time", "_request_in_progress"}
    for name in ("_resume_transport_reading", "close", "force_close", "ssl_context"):
        assert hasattr(RequestHandler, name), name
    assert "self._loop =" in inspect.getsource(Server.__init__)


def test_aiohttp_says_a_request_could_not_be_read_in_the_same_way() -> None:
    assert [field.name for field in _ErrInfo.__attrs_attrs__] == ["status", "exc", "message"]
    assert ERROR.method == "UNKNOWN"
    assert "self._make_error_handler(message)" in inspect.getsource(RequestHandler.start)
    assert "message = ERROR" in inspect.getsource(RequestHandler.start)
    for name in ("method", "path", "version", "headers", "raw_headers", "chunked", "_replace"):
        assert hasattr(RawRequestMessage, name), name


def test_answers_go_through_the_writer_the_request_was_given() -> None:
    assert "request._payload_writer" in inspect.getsource(web.StreamResponse._start)
    assert "setdefault(hdrs.SERVER" in inspect.getsource(web.StreamResponse._prepare_headers)
    assert names(StreamWriter.__init__)[:3] == ["self", "protocol", "loop"]


def test_requests_behind_one_that_runs_are_read_up_to_a_limit() -> None:
    assert MAX_MSG_QUEUE_SIZE == 32
    assert "self._pause_reading_for_buffer()" in inspect.getsource(RequestHandler.data_received)


def test_nothing_below_the_application_answers_continue() -> None:
    for part in (web_protocol, web_request, web_server):
        assert "EXPECT" not in inspect.getsource(part)


def test_a_body_tells_whether_it_is_whole_and_whether_it_broke() -> None:
    assert EMPTY_PAYLOAD.is_eof()
    assert EMPTY_PAYLOAD.exception() is None
    assert EMPTY_PAYLOAD.total_bytes == 0
    for name in ("is_eof", "exception", "set_exception", "readany"):
        assert hasattr(StreamReader, name), name
