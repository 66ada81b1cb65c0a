"""Who may see the page: names, origins and tokens, on a real socket."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from growing import Growing
from pages import Served, asked, served

PUBLIC = "0.0.0.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    Growing(folder / "run").grow(1)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Served]:
    with served(folder) as page:
        yield page


@pytest.fixture(scope="module")
def public(folder: Path) -> Iterator[Served]:
    with served(folder, "--host", PUBLIC) as page:
        yield page


def port(page: Served) -> str:
    return page.place.rpartition(":")[2]


def test_it_listens_on_loopback_alone(page: Served) -> None:
    assert page.url == f"http://127.0.0.1:{port(page)}/"
    with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
        elsewhere.connect(("127.0.0.2", int(port(page))))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_answered_whatever_the_port(page: Served, host: str) -> None:
    assert page.ask("/", Host=f"{host}:{port(page)}").status == 200
    assert page.ask("/", Host=f"{host}:9999").status == 200
    assert page.ask("/", Host=host).status == 200


STRANGE = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "localhost@evil"]
OTHER_PAGES = ["http://evil.example", "null", "https://localhost.evil", "http://127.0.0.1:1", None]


@pytest.mark.parametrize("host", STRANGE)
@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/stream?run=run"])
def test_other_names_are_refused(page: Served, host: str, path: str) -> None:
    answer = page.ask(path, Host=host)
    assert answer.status in (400, 403)
    assert b"user_" not in answer.read()


@pytest.mark.parametrize("origin", OTHER_PAGES)
def test_other_pages_change_nothing(page: Served, folder: Path, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    answer = page.ask("/api/control", "POST", {"run": "run", "action": "pause"}, **headers)
    assert answer.status == 403
    assert not (folder / "run" / "pause").exists()


def test_other_pages_read_nothing(page: Served) -> None:
    assert page.ask("/api/runs", Origin="http://evil.example").status == 403
    answer = page.ask("/api/runs", Origin=f"http://{page.place}")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_every_answer_says_what_a_browser_may_do(page: Served) -> None:
    for path, status in (("/", 200), ("/nothing", 404), ("/api/runs", 200)):
        answer = page.ask(path)
        assert answer.status == status
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] is None


@pytest.mark.parametrize("name", ["../", "..", "/etc", "run/../..", "run/../../gate2", "\0", "../gate"])
def test_names_do_not_lead_out_of_the_folder(page: Served, name: str) -> None:
    assert page.ask(f"/api/stream?run={quote(name)}").status == 404


@pytest.mark.parametrize("path", ["/../app.py", "/vendor/../../app.py", "/%2e%2e/app.py", "/docs", "/openapi.json"])
def test_only_the_page_s_own_files_are_served(page: Served, path: str) -> None:
    assert page.ask(path).status == 404


def test_beyond_loopback_a_token_is_needed(public: Served, folder: Path) -> None:
    token = public.url.partition("?token=")[2]
    assert len(token) >= 40
    here = f"127.0.0.1:{port(public)}"
    for path in ("/", "/app.js", "/api/runs", "/api/stream?run=run", "/?token=", "/?token=x", f"/?token={token[:-1]}"):
        answer = ask_here(public, path)
        assert answer.status == 401
        assert token.encode() not in answer.read()
    assert ask_here(public, "/", Cookie=f"equiran={token[:-1]}").status == 401
    answer = ask_here(public, f"/?token={token}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie == f"equiran={token}; HttpOnly; SameSite=Strict; Path=/"
    known = cookie.partition(";")[0]
    assert ask_here(public, "/api/runs", Cookie=known).status == 200
    assert ask_here(public, "/api/runs", Cookie=f"a=b; {known}").status == 200
    assert ask_here(public, "/api/runs", Cookie=known, Host=f"evil.example:{port(public)}").status == 403
    pause = {"run": "run", "action": "pause"}
    assert ask_here(public, "/api/control", "POST", pause, Cookie=known, Origin="http://evil.example").status == 403
    assert ask_here(public, "/api/control", "POST", pause, Origin=f"http://{here}").status == 401
    public.process.kill()
    _, stdout, stderr = public.end()
    assert token not in stdout + stderr


def ask_here(public: Served, path: str, method: str = "GET", body: object = None, **headers: str):
    return asked(f"127.0.0.1:{port(public)}", path, method, body, **headers)
