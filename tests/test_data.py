"""Where digits come from: found, fetched, bundled; checked before use; split."""

import dataclasses
import gzip
import hashlib
import os
import shutil
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import idx_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_lab import data, idx, splits
from mnist_lab.data import Digits, Images, load_digits
from mnist_lab.errors import LabError
from mnist_lab.idx import MNIST_SHA256, DamagedFile, MissingData, read_idx

STEMS = tuple(MNIST_SHA256)
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = STEMS
NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing listens


def says(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in:\n{message}"


def packed(folder: Path, target: Path) -> Path:
    """The four files of ``folder`` as .gz files in ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        (target / f"{stem}.gz").write_bytes(gzip.compress((folder / stem).read_bytes()))
    return target


def everything_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def small_digits(count: int = 100) -> Digits:
    labels = torch.arange(count) % 10
    part = Images(torch.zeros(count, 28, 28, dtype=torch.uint8), labels)
    return Digits(part, part, "mnist", "MNIST", "made by a test", {"part": "0"})


def test_read_idx_gives_writable_arrays_raw_and_packed(tmp_path):
    images = np.arange(2 * 28 * 28).reshape(2, 28, 28).astype(np.uint8)
    (tmp_path / "a-idx3-ubyte").write_bytes(idx_bytes(images))
    (tmp_path / "b-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.array([3, 1, 4]))))
    read = read_idx(tmp_path / "a-idx3-ubyte")
    assert read.dtype == np.uint8 and read.flags.writeable
    np.testing.assert_array_equal(read, images)
    np.testing.assert_array_equal(read_idx(str(tmp_path / "b-idx1-ubyte.gz")), [3, 1, 4])


GOOD = idx_bytes(np.zeros((3, 28, 28)))


@pytest.mark.parametrize(
    ("name", "content", "expected", "found"),
    [
        (TRAIN_IMAGES, b"", "the IDX magic number 0x00000803", "an empty file"),
        (TRAIN_IMAGES, idx_bytes(np.zeros(3)), "the IDX magic number 0x00000803", "0x00000801"),
        (TRAIN_LABELS, GOOD, "the IDX magic number 0x00000801", "0x00000803"),
        (TRAIN_IMAGES, b"<!DOCTYPE html>", "the IDX magic number 0x00000803", "0x3c21444f"),
        (TRAIN_IMAGES, gzip.compress(GOOD), "the IDX magic number 0x00000803", "should end in .gz"),
        (
            "other",
            b"text",
            "the IDX magic number 0x00000803 (images) or 0x00000801 (labels)",
            "0x74657874",
        ),
        (TRAIN_IMAGES, GOOD[:10], "a header of 16 bytes", "10 bytes (truncated)"),
        (TRAIN_IMAGES, GOOD[:-1], "2,368 bytes", "2,367 bytes (truncated)"),
        (
            TRAIN_IMAGES,
            GOOD + b"x",
            "2,368 bytes (its header says 3 × 28 × 28",
            "2,369 bytes (too long)",
        ),
        (f"{TRAIN_IMAGES}.gz", b"", "one complete gzip file", "0 bytes"),
        (f"{TRAIN_IMAGES}.gz", GOOD, "one complete gzip file", "starts with 0x00000803"),
        (f"{TRAIN_IMAGES}.gz", gzip.compress(GOOD)[:-9], "one complete gzip file", "(truncated)"),
        (
            f"{TRAIN_IMAGES}.gz",
            gzip.compress(GOOD)[:5],
            "one complete gzip file",
            "5 bytes (truncated)",
        ),
        (
            f"{TRAIN_IMAGES}.gz",
            gzip.compress(GOOD)[:-8] + bytes(8),
            "one complete gzip file",
            "a corrupted gzip stream (CRC check failed",
        ),
        (
            f"{TRAIN_IMAGES}.gz",
            gzip.compress(GOOD)[:10] + b"\xff" * 40,
            "one complete gzip file",
            "a corrupted gzip stream",
        ),
    ],
)
def test_read_idx_names_file_expected_and_found(tmp_path, name, content, expected, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedFile) as error:
        read_idx(tmp_path / name)
    says(error, f"{tmp_path / name} is not", f"expected {expected}", found)
    says(error, "python -m mnist_lab data --fetch")


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: GOOD[:4] + tail))
@settings(max_examples=200, deadline=None)
def test_no_content_makes_read_idx_fail_without_an_explanation(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any-idx3-ubyte"
    path.write_bytes(content)
    try:
        array = read_idx(path)
    except DamagedFile:
        return
    assert array.size == len(content) - 16


def test_absent_file_is_missing(tmp_path):
    with pytest.raises(MissingData) as error:
        read_idx(tmp_path / TRAIN_IMAGES)
    says(error, TRAIN_IMAGES, "expected an IDX file", "found no such file")


def test_folder_in_place_of_a_file_is_named(tiny_mnist):
    (tiny_mnist / TEST_LABELS).unlink()
    (tiny_mnist / TEST_LABELS).mkdir()
    with pytest.raises(DamagedFile) as error:
        load_digits("mnist", tiny_mnist)
    says(error, TEST_LABELS, "expected a file that can be read", "found Is a directory")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_unreadable_file_and_folder_are_named(tiny_mnist):
    (tiny_mnist / TEST_LABELS).chmod(0)
    with pytest.raises(DamagedFile) as error:
        load_digits("mnist", tiny_mnist)
    says(error, TEST_LABELS, "expected a file that can be read", "Permission denied")
    tiny_mnist.chmod(0)
    try:
        with pytest.raises(MissingData) as missing:
            load_digits("mnist", tiny_mnist)
    finally:
        tiny_mnist.chmod(0o755)
    says(missing, "tiny", "expected a folder that can be read", "Permission denied")


def test_paths_below_the_working_directory_are_shown_relative(tiny_mnist, monkeypatch):
    monkeypatch.chdir(tiny_mnist.parent)
    (tiny_mnist / TRAIN_LABELS).write_bytes(b"")
    with pytest.raises(DamagedFile, match=f"^tiny/{TRAIN_LABELS} is not the MNIST training labels"):
        load_digits("mnist", tiny_mnist)


@pytest.mark.parametrize("form", ["raw", "gz"])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_flat_and_torchvision_layout_raw_and_packed(tiny_mnist, tmp_path, form, below):
    root = tmp_path / "root"
    if form == "gz":
        packed(tiny_mnist, root / below)
    else:
        shutil.copytree(tiny_mnist, root / below)
    before = everything_below(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digits = load_digits("auto", str(root))
    assert (digits.name, digits.title, len(digits.train), len(digits.test)) == (
        "mnist",
        "MNIST",
        40,
        20,
    )
    assert digits.train.images.dtype == torch.uint8 and digits.train.labels.dtype == torch.int64
    assert digits.sha256 == MNIST_SHA256
    assert str(tmp_path) not in digits.source
    assert everything_below(root) == before


def test_environment_names_the_folder_and_root_goes_first(tiny_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_DATA", str(tiny_mnist))
    assert "MNIST_LAB_DATA" in load_digits().source
    with pytest.raises(MissingData):
        load_digits(root=tmp_path / "elsewhere")


def test_projects_own_data_folder_is_found(tiny_mnist):
    packed(tiny_mnist, data.PROJECT / "data")
    assert load_digits("auto", mirrors=[]).name == "mnist"


@pytest.mark.parametrize("kept", [(), STEMS[:3]])
@pytest.mark.parametrize("named_by", ["the argument root", "MNIST_LAB_DATA"])
def test_named_folder_without_all_files_is_an_error(
    tiny_mnist, tmp_path, monkeypatch, kept, named_by
):
    root = tmp_path / "partial"
    root.mkdir()
    for stem in kept:
        shutil.copy(tiny_mnist / stem, root)
    monkeypatch.setenv("MNIST_LAB_DATA", str(root))
    with pytest.raises(MissingData) as error:
        load_digits("auto", root if "root" in named_by else None)
    says(error, str(root), f"named by {named_by}", "expected its four files", f"found {len(kept)}")
    says(error, *(stem for stem in STEMS if stem not in kept), "Place them there")
    assert not any(stem in str(error.value) for stem in kept)


def test_file_in_place_of_the_folder_is_named(tiny_mnist):
    with pytest.raises(MissingData) as error:
        load_digits("auto", tiny_mnist / TRAIN_IMAGES)
    says(error, TRAIN_IMAGES, "expected a folder", "Not a directory")


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"'cifar'.*auto, mnist, uci-digits") as error:
        load_digits("cifar")
    assert isinstance(error.value, LabError)


def test_altered_file_is_named_with_both_digests(tiny_mnist):
    content = bytearray((tiny_mnist / TRAIN_IMAGES).read_bytes())
    content[-1] ^= 1
    (tiny_mnist / TRAIN_IMAGES).write_bytes(content)
    found = hashlib.sha256(content).hexdigest()[:8]
    with pytest.raises(DamagedFile) as error:
        load_digits("auto", tiny_mnist)
    says(error, TRAIN_IMAGES, f"expected SHA-256 {MNIST_SHA256[TRAIN_IMAGES][:8]}…")
    says(error, f"found SHA-256 {found}… (altered)", "Place a good copy there")


def test_mislabelled_file_is_recognised(tiny_mnist):
    shutil.copy(tiny_mnist / TEST_IMAGES, tiny_mnist / TRAIN_IMAGES)
    with pytest.raises(DamagedFile) as error:
        load_digits("auto", tiny_mnist)
    says(error, TRAIN_IMAGES, "expected SHA-256", "mislabelled: the MNIST test images")


def test_counts_that_disagree_are_told_before_the_digest(tiny_mnist):
    (tiny_mnist / TRAIN_LABELS).write_bytes(idx_bytes(np.zeros(39)))
    with pytest.raises(DamagedFile) as error:
        load_digits("auto", tiny_mnist)
    says(error, TRAIN_LABELS, f"expected 40 items, as in {TRAIN_IMAGES}", "found 39 items")


def test_truncation_is_told_before_the_digest(tiny_mnist):
    content = (tiny_mnist / TRAIN_IMAGES).read_bytes()
    (tiny_mnist / TRAIN_IMAGES).write_bytes(content[:1000])
    with pytest.raises(DamagedFile) as error:
        load_digits("auto", tiny_mnist)
    says(error, TRAIN_IMAGES, "expected 31,376 bytes", "found 1,000 bytes (truncated)")


def test_damaged_file_in_the_projects_folder_is_never_passed_over(tiny_mnist):
    home = packed(tiny_mnist, data.PROJECT / "data" / "MNIST" / "raw")
    (home / f"{TEST_IMAGES}.gz").write_bytes(b"")
    with pytest.raises(DamagedFile) as error:
        load_digits("auto", mirrors=[])
    says(error, TEST_IMAGES, "delete it and run `python -m mnist_lab data --fetch`")


def cached_files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_cache_is_used(tiny_mnist, tmp_path, monkeypatch):
    root = packed(tiny_mnist, tmp_path / "gz")
    first = load_digits("mnist", root)
    assert sorted(path.name for path in cached_files(tmp_path)) == sorted(STEMS)

    def never(_: bytes) -> bytes:
        raise AssertionError("decompressed again")

    monkeypatch.setattr(idx, "gunzip", never)
    second = load_digits("mnist", root)
    assert torch.equal(first.train.images, second.train.images)
    assert first.digest == second.digest


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_damaged_cache_is_rebuilt(tiny_mnist, tmp_path, damage):
    root = packed(tiny_mnist, tmp_path / "gz")
    load_digits("mnist", root)
    before = everything_below(tmp_path / "cache")
    for path in cached_files(tmp_path):
        path.write_bytes(path.read_bytes()[:-1] + b"\x0b" if damage is None else damage)
    assert load_digits("mnist", root).sha256 == MNIST_SHA256
    assert everything_below(tmp_path / "cache") == before


def test_cache_does_not_hide_a_changed_gz(tiny_mnist, tmp_path):
    root = packed(tiny_mnist, tmp_path / "gz")
    load_digits("mnist", root)
    path = root / f"{TRAIN_LABELS}.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.ones(40))))
    with pytest.raises(DamagedFile, match="altered"):
        load_digits("mnist", root)
    assert len(cached_files(tmp_path)) == 4, "an altered file was cached"


def test_cache_that_cannot_be_written_is_no_error(tiny_mnist, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    assert len(load_digits("mnist", packed(tiny_mnist, tmp_path / "gz")).train) == 40


def test_read_only_root_is_enough(tiny_mnist, tmp_path):
    root = packed(tiny_mnist, tmp_path / "gz")
    for path in (*root.iterdir(), root):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert len(load_digits("mnist", root).test) == 20
        assert sorted(path.name for path in root.iterdir()) == sorted(f"{s}.gz" for s in STEMS)
    finally:
        root.chmod(0o755)


@dataclass
class Mirror:
    """A real server on the loopback, with the ways a mirror can misbehave."""

    files: dict[str, bytes]
    ranges: bool = True
    shifted: bool = False  # answers a Range with other bytes than those asked for
    cut: int | None = None  # closes the connection after so many bytes of a body
    url: str = ""
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name, wanted = handler.path.rsplit("/", 1)[-1], handler.headers.get("Range")
        body, status, start = self.files.get(name), 200, 0
        if body is None:
            status, body = 404, b"nothing here"
        elif wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status, body = (416, b"") if start >= len(body) else (206, body[start:])
        self.requests.append((name, wanted, status))
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        if status == 206:
            first = 0 if self.shifted else start
            handler.send_header("Content-Range", f"bytes {first}-{start + len(body) - 1}/*")
        handler.end_headers()
        handler.wfile.write(body if self.cut is None else body[: self.cut])


@contextmanager
def serving(mirror: Mirror):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            mirror.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        mirror.url = f"http://127.0.0.1:{server.server_port}/mnist/"
        yield mirror
        server.shutdown()


@pytest.fixture
def files(tiny_mnist, monkeypatch) -> dict[str, bytes]:
    """What a good mirror offers."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return {f"{stem}.gz": gzip.compress((tiny_mnist / stem).read_bytes()) for stem in STEMS}


@pytest.fixture
def target(tmp_path) -> Path:
    """The folder that ``fetch_mnist(tmp_path / "new")`` fills."""
    return tmp_path / "new" / "MNIST" / "raw"


def fetch(target: Path, *mirrors: str) -> Path:
    return data.fetch_mnist(target.parent.parent, mirrors)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetch_puts_four_checked_files_and_nothing_else(files, target):
    with serving(Mirror(files)) as mirror:
        assert fetch(target, mirror.url) == target
        assert names_in(target) == sorted(STEMS)
        assert load_digits("mnist", target.parent.parent).sha256 == MNIST_SHA256
        fetch(target, mirror.url)
    assert len(mirror.requests) == 4, "good files were fetched again"


def test_auto_fetches_into_the_projects_data(files, capsys):
    with serving(Mirror(files)) as mirror:
        digits = load_digits("auto", mirrors=[mirror.url])
    assert digits.name == "mnist" and capsys.readouterr().out == ""
    assert names_in(data.PROJECT / "data" / "MNIST" / "raw") == sorted(STEMS)


def test_fetch_replaces_only_what_is_damaged(files, target):
    with serving(Mirror(files)) as mirror:
        fetch(target, mirror.url)
        (target / TRAIN_LABELS).write_bytes(b"half a fi")
        mirror.requests.clear()
        fetch(target, mirror.url)
    assert [name for name, *_ in mirror.requests] == [f"{TRAIN_LABELS}.gz"]
    assert load_digits("mnist", target).sha256 == MNIST_SHA256


def test_fetch_repairs_what_lies_damaged_in_the_folder_itself(files, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / TRAIN_LABELS).write_bytes(b"half a fi")
    with serving(Mirror(files)) as mirror:
        data.fetch_mnist(tmp_path / "home", [mirror.url])
    assert load_digits("mnist", tmp_path / "home").sha256 == MNIST_SHA256


def test_broken_off_download_is_resumed(files, target):
    with serving(Mirror(files, cut=20_000)) as mirror:
        with pytest.raises(MissingData) as error:
            fetch(target, mirror.url)
        says(error, mirror.url, "connection broke off")
        assert names_in(target) == [f"{TRAIN_IMAGES}.gz.part"]
        have = (target / f"{TRAIN_IMAGES}.gz.part").stat().st_size
        assert 10_000 < have <= 20_000
        assert len(mirror.requests) == 1, "a mirror that broke off was asked again"
        mirror.cut = None
        fetch(target, mirror.url)
    assert mirror.requests[1] == (f"{TRAIN_IMAGES}.gz", f"bytes={have}-", 206)
    assert names_in(target) == sorted(STEMS)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("content", ["start", "whole", "foreign", "foreign and longer"])
def test_whatever_is_in_the_part_the_result_is_right(files, target, ranges, content):
    good = files[f"{TRAIN_IMAGES}.gz"]
    part = {
        "start": good[:700],
        "whole": good,
        "foreign": b"x" * 700,
        "foreign and longer": b"x" * (len(good) + 5),
    }[content]
    target.mkdir(parents=True)
    (target / f"{TRAIN_IMAGES}.gz.part").write_bytes(part)
    with serving(Mirror(files, ranges=ranges)) as mirror:
        fetch(target, mirror.url)
    asked = [request[1:] for request in mirror.requests if TRAIN_IMAGES in request[0]]
    first = 200 if not ranges else 416 if len(part) >= len(good) else 206
    assert asked[0] == (f"bytes={len(part)}-", first)
    assert len(asked) == (2 if ranges and content.startswith("foreign") else 1)
    assert names_in(target) == sorted(STEMS)
    assert load_digits("mnist", target).sha256 == MNIST_SHA256


def test_server_that_sends_another_range_is_asked_for_the_whole(files, target):
    target.mkdir(parents=True)
    (target / f"{TRAIN_IMAGES}.gz.part").write_bytes(files[f"{TRAIN_IMAGES}.gz"][:700])
    with serving(Mirror(files, shifted=True)) as mirror:
        fetch(target, mirror.url)
    assert [status for *_, status in mirror.requests] == [206, 200, 200, 200, 200]
    assert names_in(target) == sorted(STEMS)


def test_part_is_never_read_as_data(files, target):
    target.mkdir(parents=True)
    for name, content in files.items():
        (target / f"{name}.part").write_bytes(content)
        (target / f".{name.removesuffix('.gz')}.0123abcd.tmp").write_bytes(content)
    with pytest.raises(MissingData, match="found 0 of them"):
        load_digits("auto", target)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (gzip.compress(idx_bytes(np.zeros((40, 28, 28)))), "expected SHA-256"),
        (gzip.compress(bytes(range(256)) * 9)[:-20], "(truncated)"),
        (b"<html>log in to this network</html>", "no gzip data"),
        (b"", "0 bytes"),
    ],
)
def test_bad_download_leaves_nothing_behind_and_the_next_mirror_is_tried(
    files, target, bad, reason
):
    name = f"{TRAIN_IMAGES}.gz"
    with serving(Mirror(files | {name: bad})) as first, serving(Mirror(files)) as second:
        with pytest.raises(MissingData) as error:
            fetch(target, first.url)
        says(error, str(target), first.url, name, reason, "By hand", *STEMS)
        assert names_in(target) == []
        fetch(target, first.url, second.url)
    assert names_in(target) == sorted(STEMS)
    assert [request[0] for request in second.requests] == [name]


def test_unreachable_mirror_is_asked_once(files, target, monkeypatch):
    asked = []
    send = data.fetch_files.__globals__["requests"].Session.send

    def counted(session, request, **options):
        asked.append(request.url)
        return send(session, request, **options)

    monkeypatch.setattr("requests.Session.send", counted)
    with serving(Mirror(files)) as mirror:
        fetch(target, NOWHERE, mirror.url)
    assert sum(url.startswith(NOWHERE) for url in asked) == 1
    assert names_in(target) == sorted(STEMS)


def test_no_mirror_gives_one_short_line_each(files, target):
    with serving(Mirror({})) as empty, pytest.raises(MissingData) as error:
        fetch(target, NOWHERE, empty.url, "http://no-such-host.invalid/", "not an address")
    lines = str(error.value).splitlines()
    assert len(lines) == 7 and max(map(len, lines)) < 200
    assert lines[1].startswith(f"  {NOWHERE}") and "no connection" in lines[1]
    assert "HTTP 404" in lines[2]
    assert "no-such-host.invalid" in lines[3] and "0x" not in str(error.value)
    assert not target.exists()


def test_folder_that_cannot_be_written_is_named(files, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "MNIST").mkdir()
    (tmp_path / "new" / "MNIST" / "raw").symlink_to("/proc/no-such-place")
    with serving(Mirror(files)) as mirror, pytest.raises(MissingData) as error:
        data.fetch_mnist(tmp_path / "new", [mirror.url])
    says(error, "could not be fetched into", str(tmp_path / "new"))


def test_progress_goes_to_stderr(files, tmp_path, capsys):
    with serving(Mirror(files)) as mirror:
        data.fetch_mnist(tmp_path / "new", [mirror.url], progress=True)
    printed = capsys.readouterr()
    assert printed.out == "" and f"{TRAIN_IMAGES}.gz" in printed.err


def test_forced_mnist_without_network_says_what_was_tried(files):
    with pytest.raises(MissingData) as error:
        load_digits("mnist", mirrors=[NOWHERE])
    says(error, "could not be fetched", NOWHERE, "no connection", "MNIST_LAB_DATA", *STEMS)


def test_auto_without_network_says_that_this_is_not_mnist(files, capsys):
    digits = load_digits("auto", mirrors=[NOWHERE])
    banner = capsys.readouterr().out
    assert digits.name == "uci-digits"
    assert 3 <= len(banner.splitlines()) <= 4
    for part in ("NOT MNIST", "1,797", "python -m mnist_lab data --fetch", "MNIST_LAB_DATA"):
        assert part in banner


def test_describe_names_each_file_its_form_and_its_fault(tiny_mnist):
    (tiny_mnist / TEST_LABELS).unlink()
    (tiny_mnist / TEST_IMAGES).write_bytes(b"")
    text = (tiny_mnist / TRAIN_LABELS).read_bytes()
    (tiny_mnist / TRAIN_LABELS).unlink()
    (tiny_mnist / f"{TRAIN_LABELS}.gz").write_bytes(gzip.compress(text))
    lines = data.describe_data(tiny_mnist)
    assert str(tiny_mnist) in lines[0]
    by_stem = {stem: next(line for line in lines if stem in line) for stem in STEMS}
    assert "raw, good" in by_stem[TRAIN_IMAGES]
    assert "gz, good" in by_stem[TRAIN_LABELS]
    assert "raw, damaged" in by_stem[TEST_IMAGES] and any("an empty file" in x for x in lines)
    assert by_stem[TEST_LABELS].endswith("missing")


def test_describe_says_what_is_used(tiny_mnist):
    assert "MNIST is used" in data.describe_data(tiny_mnist)[-1]
    assert "1,797 UCI" in data.describe_data()[-1]
    assert "Not a directory" in "\n".join(data.describe_data(tiny_mnist / TRAIN_IMAGES))


@pytest.fixture(scope="module")
def uci() -> Digits:
    return load_digits("uci-digits")


def test_uci_digits_have_mnists_form(uci, capsys):
    assert (uci.name, uci.title, len(uci.train), len(uci.test)) == (
        "uci-digits",
        "UCI digits",
        1497,
        300,
    )
    for part in (uci.train, uci.test):
        assert part.images.shape == (len(part), 28, 28) and part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64 and sorted(part.labels.unique().tolist()) == [
            *range(10)
        ]
    assert torch.bincount(uci.test.labels).min() >= 28, "not stratified"
    assert tuple(uci.sha256) == STEMS
    assert uci.digest == load_digits("uci-digits").digest
    assert capsys.readouterr().out == ""


def test_uci_digits_are_placed_as_mnists_are(uci):
    ink = uci.train.images.double()
    weight = ink.sum(dim=(1, 2))
    for other in (1, 2):
        centre = (ink.sum(dim=other) * torch.arange(28)).sum(dim=1) / weight
        assert (centre - 14).abs().max() <= 0.51
    extent = torch.stack([(ink.sum(dim=axis) > 0).sum(dim=1) for axis in (1, 2)])
    assert set(extent.max(dim=0).values.tolist()) == {20}


def test_uci_digits_are_the_same_on_every_machine(uci):
    assert uci.digest == "11bad957e87605ee2c16b07cc5392f0418d853b4e8dc7638cd020f8905130122"


def test_dataset_digest_depends_on_every_part():
    digits = small_digits()
    digests = {digits.digest}
    for part in ("train", "test"):
        for name in ("images", "labels"):
            changed = {name: getattr(getattr(digits, part), name).clone()}
            changed[name].view(-1)[0] += 1
            changed_part = dataclasses.replace(getattr(digits, part), **changed)
            digests.add(dataclasses.replace(digits, **{part: changed_part}).digest)
    assert len(digests) == 5 and {len(digest) for digest in digests} == {64}


def test_a_part_of_the_digits_has_another_digest(uci):
    first = Images(uci.train.images[:100], uci.train.labels[:100])
    assert dataclasses.replace(uci, train=first).digest != uci.digest


@given(fraction=st.floats(0.1, 0.9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_splits_cover_every_digit_once(fraction, seed):
    digits = small_digits(200)
    for split in (
        splits.random_split(digits, fraction, seed),
        splits.stratified_split(digits, fraction, seed),
    ):
        assert torch.equal(split.train, split.train.sort().values)
        assert torch.equal(split.validation, split.validation.sort().values)
        assert split.train.dtype == split.validation.dtype == torch.int64
        together = torch.cat([split.train, split.validation])
        assert torch.equal(together.sort().values, torch.arange(200))


def test_stratified_split_keeps_the_classes_in_proportion():
    digits = small_digits(200)
    split = splits.stratified_split(digits)
    assert torch.bincount(digits.train.labels[split.validation]).tolist() == [4] * 10
    assert split.name == "stratified 80/20"
    assert splits.random_split(digits, 0.15).name == "random 85/15"


def test_folds_cover_every_digit_once_in_validation():
    digits = small_digits(200)
    folds = splits.stratified_folds(digits, folds=4, seed=3)
    assert [fold.name for fold in folds] == [f"fold {i} of 4" for i in range(1, 5)]
    together = torch.cat([fold.validation for fold in folds])
    assert torch.equal(together.sort().values, torch.arange(200))
    for fold in folds:
        assert torch.bincount(digits.train.labels[fold.validation]).tolist() == [5] * 10
        assert not set(fold.train.tolist()) & set(fold.validation.tolist())


def test_split_digest_names_the_indices():
    digits = small_digits()
    first = splits.stratified_split(digits, seed=0)
    assert first.digest == splits.stratified_split(digits, seed=0).digest
    assert first.digest != splits.stratified_split(digits, seed=1).digest
    moved = splits.Split(first.train[:-1], torch.cat([first.train[-1:], first.validation]), "moved")
    assert first.digest != moved.digest


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda d: splits.random_split(d, 0.0),
            "validation_fraction must lie between 0 and 1, got 0",
        ),
        (lambda d: splits.stratified_split(d, 1.5), "between 0 and 1, got 1.5"),
        (lambda d: splits.stratified_split(d, 0.01), "validation_fraction 0.01 .* 100 digits"),
        (lambda d: splits.random_split(d, seed=-1), "seed must be a whole number from 0"),
        (lambda d: splits.random_split(d, seed=0.5), "seed must be a whole number from 0"),
        (lambda d: splits.stratified_folds(d, folds=1), "whole number from 2 to 10 .* got 1"),
        (lambda d: splits.stratified_folds(d, folds=11), "whole number from 2 to 10 .* got 11"),
        (lambda d: splits.stratified_folds(d, folds=2.5), "whole number from 2 to 10 .* got 2.5"),
        (lambda d: splits.stratified_folds(d, seed=2**32), "seed must be a whole number"),
    ],
)
def test_bad_split_arguments_say_what_was_expected(call, expected):
    with pytest.raises(ValueError, match=expected):
        call(small_digits())


def test_exact_duplicates_within_and_across():
    images = torch.zeros(5, 28, 28, dtype=torch.uint8)
    images[1, 3, 4] = images[2, 3, 4] = 9
    images[3, 27, 27] = 1
    assert splits.exact_duplicates(images) == 2
    assert splits.exact_duplicates(images, images[1:2]) == 2
    assert splits.exact_duplicates(images[3:4], images[:3]) == 0
    assert splits.exact_duplicates(images[:0]) == 0


def test_exact_duplicates_refuses_what_cannot_be_equal():
    images = torch.zeros(5, 28, 28, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"float32.*uint8|uint8.*float32"):
        splits.exact_duplicates(images, images.float())
    with pytest.raises(ValueError, match=r"\(28, 28\).*\(8, 8\)"):
        splits.exact_duplicates(images, images[:, :8, :8])


def test_mnist_is_mnist(mnist_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_CACHE", str(tmp_path / "cache"))
    started = time.perf_counter()
    first = load_digits("mnist", mnist_root)
    cold = time.perf_counter() - started
    started = time.perf_counter()
    second = load_digits("mnist", mnist_root)
    warm = time.perf_counter() - started
    assert first.train.images.shape == (60_000, 28, 28) and len(first.test) == 10_000
    assert torch.bincount(first.train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert first.sha256["t10k-labels-idx1-ubyte"].startswith("ff7bcfd4")
    assert first.digest == second.digest
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    assert cold < 10 and warm < 2, f"{cold:.2f} s from .gz, {warm:.2f} s cached"


def test_mnist_agrees_with_torchvision(mnist_root, tmp_path):
    from torchvision.datasets import MNIST

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in STEMS:
        (raw / stem).write_bytes(gzip.decompress((mnist_root / f"{stem}.gz").read_bytes()))
    digits = load_digits("mnist", tmp_path)
    for part, train in ((digits.train, True), (digits.test, False)):
        reference = MNIST(tmp_path, train=train)
        assert torch.equal(part.images, reference.data)
        assert torch.equal(part.labels, reference.targets)
