"""Where digits come from: found, fetched, bundled; checked before use."""

import dataclasses
import gzip
import hashlib
import itertools
import os
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import idx_bytes
from scipy.ndimage import center_of_mass

from mnist_lab import data, download
from mnist_lab.course.cli import main
from mnist_lab.data import MNIST_SHA256, DamagedFile, MissingData, load_digits, read_idx
from mnist_lab.files import MAX_BYTES, LabError

STEMS = tuple(MNIST_SHA256)
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = STEMS
NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing listens
ANY_USER_MAY_READ = not hasattr(os, "geteuid") or os.geteuid() == 0


def says(error: pytest.ExceptionInfo, *parts: str) -> None:
    missing = [part for part in parts if part not in str(error.value)]
    assert not missing, f"{missing} not in:\n{error.value}"


def packed(folder: Path, target: Path) -> None:
    """The four files of ``folder`` as .gz files in ``target``."""
    target.mkdir(parents=True)
    for stem in STEMS:
        (target / f"{stem}.gz").write_bytes(gzip.compress((folder / stem).read_bytes()))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_read_idx_gives_writable_arrays_raw_and_packed(tmp_path):
    images = np.arange(2 * 28 * 28).reshape(2, 28, 28).astype(np.uint8)
    (tmp_path / "a-idx3-ubyte").write_bytes(idx_bytes(images))
    (tmp_path / "b-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.array([3, 1, 4]))))
    read = read_idx(tmp_path / "a-idx3-ubyte")
    assert read.dtype == np.uint8 and read.flags.writeable
    np.testing.assert_array_equal(read, images)
    np.testing.assert_array_equal(read_idx(str(tmp_path / "b-idx1-ubyte.gz")), [3, 1, 4])


GOOD = idx_bytes(np.zeros((3, 28, 28)))
PACKED = gzip.compress(GOOD, mtime=0)
LABELS_40 = idx_bytes(np.arange(40) % 10)  # the training labels of ``tiny_mnist``


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("other", b"", "0 bytes"),
        ("other", b"<!DOCTYPE html>", "15 bytes that begin with 0x3c21444f"),
        ("other", GOOD[:9], "9 bytes that begin with"),
        ("other", GOOD[:-1], "2,367 bytes that begin with 0x00000803"),
        ("other.gz", GOOD, "Not a gzipped file"),
        ("other.gz", PACKED[:-9], "ended before the end"),
        ("other.gz", PACKED[:-8] + bytes(8), "CRC check failed"),
        ("other.gz", PACKED[:10] + b"\xff" * 40, "invalid"),
        ("no such file", None, "No such file"),
    ],
)
def test_damaged_file_is_named_with_expected_and_found(tmp_path, name, content, found):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedFile) as error:
        read_idx(tmp_path / name)
    says(error, f"{tmp_path / name} can't be used", "expected", found)
    says(error, "delete it and run `python -m mnist_lab data --fetch`")


def test_no_more_is_decompressed_than_mnist_can_hold(tmp_path):
    path = tmp_path / f"{TRAIN_LABELS}.gz"
    path.write_bytes(gzip.compress(bytes(2 * MAX_BYTES), compresslevel=1))
    expected = "expected 60,008 bytes with SHA-256 65a50cbb…"
    with pytest.raises(DamagedFile, match=f"{expected}, found {MAX_BYTES + 1:,} bytes"):
        read_idx(path)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (TRAIN_IMAGES, lambda good: good[:1000], "1,000 bytes with SHA-256 {}… (truncated)"),
        (TRAIN_IMAGES, lambda good: good[:-1] + b"?", "31,376 bytes with SHA-256 {}… (altered)"),
        (TRAIN_LABELS, lambda good: good + b"\1", "49 bytes with SHA-256 {}… (altered)"),
        (TRAIN_IMAGES, gzip.compress, "(gzip data: its name should end in .gz)"),
        (TEST_LABELS, lambda _: LABELS_40, f"(mislabelled: it is {TRAIN_LABELS})"),
    ],
)
def test_file_that_is_not_mnists_is_never_used(tiny_mnist, monkeypatch, name, content, found):
    monkeypatch.chdir(tiny_mnist.parent)
    good = (tiny_mnist / name).read_bytes()
    bad = content(good)
    (tiny_mnist / name).write_bytes(bad)
    with pytest.raises(DamagedFile) as error:
        load_digits("auto", tiny_mnist)
    assert str(error.value).startswith(f"tiny/{name} can't be used"), "not a relative path"
    says(error, f"expected {len(good):,} bytes with SHA-256 {MNIST_SHA256[name][:8]}…")
    says(error, found.format(hashlib.sha256(bad).hexdigest()[:8]))


def test_folder_in_place_of_a_file_and_file_in_place_of_a_folder_are_named(tiny_mnist):
    (tiny_mnist / TEST_LABELS).unlink()
    (tiny_mnist / TEST_LABELS).mkdir()
    with pytest.raises(DamagedFile, match=f"{TEST_LABELS} can't .*\n.*found Is a directory"):
        load_digits("mnist", tiny_mnist)
    with pytest.raises(MissingData, match=f"{TRAIN_IMAGES} .*no folder that can be opened"):
        load_digits("auto", tiny_mnist / TRAIN_IMAGES)


@pytest.mark.skipif(ANY_USER_MAY_READ, reason="root may read everything")
def test_unreadable_file_and_folder_are_named(tiny_mnist):
    (tiny_mnist / TEST_LABELS).chmod(0)
    with pytest.raises(DamagedFile, match=f"{TEST_LABELS} can't .*\n.*Permission denied"):
        load_digits("mnist", tiny_mnist)
    tiny_mnist.chmod(0)
    with pytest.raises(MissingData, match=r"tiny .*no folder that can be opened"):
        load_digits("mnist", tiny_mnist)
    tiny_mnist.chmod(0o755)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["raw", "gz"])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_flat_and_torchvision_layout_raw_and_packed_read_only(tiny_mnist, tmp_path, form, below):
    folder = tmp_path / "root" / below
    (packed if form == "gz" else shutil.copytree)(tiny_mnist, folder)
    before = names_in(folder)
    for path in (*folder.iterdir(), folder):
        path.chmod(path.stat().st_mode & ~0o222)
    digits = load_digits("auto", str(tmp_path / "root"))
    folder.chmod(0o755)
    assert (digits.name, digits.title) == ("mnist", "MNIST")
    assert (len(digits.train), len(digits.test)) == (40, 20)
    assert digits.train.images.dtype == torch.uint8 and digits.train.labels.dtype == torch.int64
    assert digits.sha256 == MNIST_SHA256
    assert str(tmp_path) not in digits.source
    assert names_in(folder) == before


def test_environment_names_the_folder_and_root_goes_first(tiny_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_DATA", "~/tiny")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "MNIST_LAB_DATA" in load_digits().source
    assert "the argument root" in load_digits(root="~/tiny").source
    with pytest.raises(MissingData):
        load_digits(root=tmp_path / "elsewhere")


def test_projects_own_data_folder_is_found_and_damage_there_not_passed_over(tiny_mnist):
    home = data.PROJECT / "data"
    packed(tiny_mnist, home)
    assert load_digits("auto", mirrors=[]).name == "mnist"
    (home / f"{TEST_IMAGES}.gz").write_bytes(b"")
    with pytest.raises(DamagedFile, match=TEST_IMAGES):
        load_digits("auto", mirrors=[])


@pytest.mark.parametrize("kept", [(), STEMS[:3]])
@pytest.mark.parametrize("named_by", ["the argument root", "MNIST_LAB_DATA"])
def test_named_folder_without_all_files_is_an_error(tiny_mnist, monkeypatch, kept, named_by):
    for stem in set(STEMS) - set(kept):
        (tiny_mnist / stem).unlink()
    monkeypatch.setenv("MNIST_LAB_DATA", str(tiny_mnist))
    with pytest.raises(MissingData) as error:
        load_digits("auto", tiny_mnist if "root" in named_by else None)
    says(
        error, str(tiny_mnist), f"named by {named_by}", "folder that you name has to hold all four"
    )
    says(error, *(f"{stem}  {'good' if stem in kept else 'missing'}" for stem in STEMS))


@pytest.mark.parametrize("kind", [ValueError, LabError])
def test_unknown_name_lists_the_names(kind):
    with pytest.raises(kind, match=r"'cifar'.*auto, mnist, uci-digits"):
        load_digits("cifar")


class Mirror(ThreadingHTTPServer):
    """A real server on the loopback, with the ways a mirror can misbehave."""

    ranges: bool = True
    shifted: bool = False  # answers a Range with other bytes than those asked for
    cut: int | None = None  # closes the connection after so many bytes of a body

    def __init__(self, files: dict[str, bytes], **ways: object):
        super().__init__(("127.0.0.1", 0), Answer)
        vars(self).update(ways, files=files, requests=[])
        self.url = f"http://127.0.0.1:{self.server_port}/mnist/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def server_close(self):  # as leaving a ``with`` block does
        self.shutdown()
        super().server_close()


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        mirror, name, wanted = self.server, self.path.rsplit("/", 1)[-1], self.headers.get("Range")
        body, status = mirror.files.get(name, b"nothing here"), 200
        if name not in mirror.files:
            status = 404
        elif wanted and mirror.ranges:
            start = 0 if mirror.shifted else int(wanted.removeprefix("bytes=").rstrip("-"))
            status, body = (416, b"") if start >= len(body) else (206, body[start:])
        mirror.requests.append((name, wanted, status))
        self.send_response_only(status)  # which logs nothing
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: mirror.cut])


@pytest.fixture
def files(tiny_mnist, monkeypatch) -> dict[str, bytes]:
    """What a good mirror offers."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return {f"{stem}.gz": gzip.compress((tiny_mnist / stem).read_bytes()) for stem in STEMS}


@pytest.fixture
def target(tmp_path) -> Path:
    """The folder that ``fetch`` fills."""
    return tmp_path / "new" / "MNIST" / "raw"


def fetch(target: Path, *mirrors: str, progress: bool = False) -> Path:
    return data.fetch_mnist(target.parent.parent, mirrors, progress)


def test_auto_fetches_four_checked_files_once_into_the_projects_data(files, capsys):
    with Mirror(files) as mirror:
        for _ in range(2):
            assert load_digits("auto", mirrors=[mirror.url]).sha256 == MNIST_SHA256
    assert len(mirror.requests) == 4
    assert names_in(data.PROJECT / "data" / "MNIST" / "raw") == sorted(STEMS)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("damaged", ["new/MNIST/raw", "new"])
def test_fetch_replaces_what_is_damaged_with_a_bar_on_stderr(files, target, damaged, capsys):
    tmp_path = target.parents[2]
    folder = shutil.copytree(tmp_path / "tiny", tmp_path / damaged)
    (folder / TRAIN_LABELS).write_bytes(b"half a fi")
    with Mirror(files) as mirror:
        assert fetch(target, mirror.url, progress=True) == target
    assert [name for name, *_ in mirror.requests] == [f"{TRAIN_LABELS}.gz"]
    printed = capsys.readouterr()
    assert printed.out == "" and f"{TRAIN_LABELS}.gz" in printed.err
    assert load_digits("mnist", tmp_path / "new").sha256 == MNIST_SHA256


def test_broken_off_download_is_resumed(files, target):
    with Mirror(files, cut=20_000) as mirror:
        with pytest.raises(MissingData, match=f"{mirror.url}.* connection broke off"):
            fetch(target, mirror.url)
        assert names_in(target) == [f"{TRAIN_IMAGES}.gz.part"]
        have = (target / f"{TRAIN_IMAGES}.gz.part").stat().st_size
        assert 10_000 < have <= 20_000
        assert len(mirror.requests) == 1, "a mirror that broke off was asked again"
        mirror.cut = None
        fetch(target, mirror.url)
    assert mirror.requests[1] == (f"{TRAIN_IMAGES}.gz", f"bytes={have}-", 206)
    assert names_in(target) == sorted(STEMS)


@pytest.mark.parametrize("ways", [{}, {"ranges": False}, {"shifted": True}])
@pytest.mark.parametrize("content", ["start", "whole", "foreign", "foreign and longer"])
def test_whatever_is_in_the_part_the_result_is_right(files, target, ways, content):
    good = files[f"{TRAIN_IMAGES}.gz"]
    parts = {"start": good[:700], "whole": good, "foreign": b"x" * 700}
    part = parts.get(content, b"x" * (len(good) + 5))
    target.mkdir(parents=True)
    (target / f"{TRAIN_IMAGES}.gz.part").write_bytes(part)
    assert f"{TRAIN_IMAGES}  missing" in data.describe_data(target)[1], "a part was read as data"
    with Mirror(files, **ways) as mirror:
        fetch(target, mirror.url)
    asked = [request[1] for request in mirror.requests if TRAIN_IMAGES in request[0]]
    assert asked in ([f"bytes={len(part)}-"], [f"bytes={len(part)}-", None])
    if content in ("start", "whole") and not ways:
        assert len(asked) == 1, "what was there was thrown away"
    assert names_in(target) == sorted(STEMS)
    assert load_digits("mnist", target).sha256 == MNIST_SHA256


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (gzip.compress(idx_bytes(np.zeros((40, 28, 28))), mtime=0), "expected SHA-256"),
        (gzip.compress(bytes(range(256)) * 9, mtime=0)[:-20], "ended before the end"),
        (b"<html>log in to this network</html>", "Not a gzipped file"),
        (bytes(MAX_BYTES + 1), f"more than {MAX_BYTES:,} bytes"),
    ],
    ids=["other digits", "cut off", "a login page", "endless"],
)
def test_bad_download_leaves_nothing_and_the_next_mirror_is_tried(files, target, bad, reason):
    name = f"{TRAIN_IMAGES}.gz"
    with Mirror(files | {name: bad}) as first, Mirror(files) as second:
        with pytest.raises(MissingData) as error:
            fetch(target, first.url)
        says(error, str(target), first.url, name, reason, "By hand", *STEMS)
        assert names_in(target) == []
        fetch(target, first.url, second.url)
    assert names_in(target) == sorted(STEMS)
    assert [request[0] for request in second.requests] == [name]


def test_mirror_that_breaks_off_is_not_asked_for_the_other_files(files, target):
    with Mirror(files, cut=0) as broken, Mirror(files) as mirror:
        fetch(target, broken.url, mirror.url)
    assert (len(broken.requests), len(mirror.requests)) == (1, 4)


def test_a_download_without_end_is_given_up_and_can_be_resumed(files, target, monkeypatch):
    monkeypatch.setattr(download, "DEADLINE", 0)
    with Mirror(files) as mirror, pytest.raises(MissingData, match="not all of it within"):
        fetch(target, mirror.url)
    assert names_in(target) == [f"{TRAIN_IMAGES}.gz.part"]


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_folder_or_device_of_a_files_name_does_not_hide_its_gz(tiny_mnist):
    for stem, make in ((TRAIN_LABELS, os.mkdir), (TEST_IMAGES, os.mkfifo)):
        content = (tiny_mnist / stem).read_bytes()
        (tiny_mnist / stem).unlink()
        make(tiny_mnist / stem)
        (tiny_mnist / f"{stem}.gz").write_bytes(gzip.compress(content))
    assert load_digits("mnist", tiny_mnist).sha256 == MNIST_SHA256
    assert CliRunner().invoke(main, ["data", "--root", str(tiny_mnist)]).exit_code == 0
    (tiny_mnist / TRAIN_IMAGES).write_bytes(b"cut off")
    assert CliRunner().invoke(main, ["data", "--root", str(tiny_mnist)]).exit_code == 1


def test_no_mirror_gives_one_short_line_each(files, target):
    with Mirror({}) as empty, pytest.raises(MissingData) as error:
        fetch(target, NOWHERE, empty.url, "http://no-such-host.invalid/", "not an address")
    lines = str(error.value).splitlines()
    assert len(lines) == 7 and max(map(len, lines)) < 200
    assert lines[1].startswith(f"  {NOWHERE}") and "no connection" in lines[1]
    assert "404 Client Error" in lines[2]
    assert "no-such-host.invalid" in lines[3] and "0x" not in str(error.value)
    assert not target.exists()


def test_folder_that_cannot_be_written_is_named_and_no_mirror_is_blamed(files, target):
    target.parent.mkdir(parents=True)
    target.symlink_to("/proc/no-such-place")
    with Mirror(files) as mirror, pytest.raises(LabError) as error:
        fetch(target, mirror.url, NOWHERE)
    says(error, f"{target} cannot be written: File exists", "MNIST_LAB_DATA")
    assert not isinstance(error.value, MissingData), "then other digits would be taken"


def test_without_network_auto_says_that_this_is_not_mnist_and_mnist_what_was_tried(files, capsys):
    assert load_digits("auto", mirrors=[NOWHERE]).name == "uci-digits"
    said = "(?s)NOT MNIST.* 1,797 .*`python -m mnist_lab data --fetch`.* MNIST_LAB_DATA"
    assert re.match(said, capsys.readouterr().out)
    with pytest.raises(MissingData) as error:
        load_digits("mnist", mirrors=[NOWHERE])
    says(error, "could not be fetched", NOWHERE, "no connection", "MNIST_LAB_DATA", *STEMS)


def test_describe_names_each_file_its_form_and_its_fault(tiny_mnist):
    assert "MNIST is used" in data.describe_data(tiny_mnist)[-1]
    assert "filled by a download" in data.describe_data()[-1]
    (tiny_mnist / TEST_IMAGES).write_bytes(b"")
    gz = (tiny_mnist / TRAIN_LABELS).rename(tiny_mnist / f"{TRAIN_LABELS}.gz")
    gz.write_bytes(gzip.compress(gz.read_bytes()))
    text = "\n".join(data.describe_data(tiny_mnist))
    assert f"{TRAIN_IMAGES}  good: {tiny_mnist / TRAIN_IMAGES}\n" in text
    assert f"{TRAIN_LABELS}  good: {gz}\n" in text
    assert f"{TEST_IMAGES}  damaged: {tiny_mnist / TEST_IMAGES} can't be used" in text


def test_uci_digits_have_mnists_form_and_are_the_same_on_every_machine(uci_digits):
    assert uci_digits.digest == "11bad957e87605ee2c16b07cc5392f0418d853b4e8dc7638cd020f8905130122"
    assert (uci_digits.name, uci_digits.title) == ("uci-digits", "UCI digits")
    assert (len(uci_digits.train), len(uci_digits.test)) == (1497, 300)
    for part in (uci_digits.train, uci_digits.test):
        assert part.images.shape == (len(part), 28, 28) and part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.labels.unique().tolist() == [*range(10)]
    assert torch.bincount(uci_digits.test.labels).min() >= 28, "not stratified"
    assert tuple(uci_digits.sha256) == STEMS


def test_uci_digits_are_placed_as_mnists_are(uci_digits):
    for image in uci_digits.test.images.numpy():
        assert center_of_mass(image) == pytest.approx((14, 14), abs=0.51)
        assert max(image.any(0).sum(), image.any(1).sum()) == 20


def test_dataset_digest_depends_on_every_part(few_digits, uci_digits):
    digests = {few_digits.digest, uci_digits.digest}
    for part, name in itertools.product(("train", "test"), ("images", "labels")):
        whole = getattr(few_digits, part)
        other = dataclasses.replace(whole, **{name: getattr(whole, name).flip(0)})
        digests.add(dataclasses.replace(few_digits, **{part: other}).digest)
    assert len(digests) == 6 and {len(digest) for digest in digests} == {64}


def test_mnist_is_mnist_and_agrees_with_torchvision(mnist_root, tmp_path):
    from torchvision.datasets import MNIST

    started = time.perf_counter()
    digits = load_digits("mnist", mnist_root)
    assert time.perf_counter() - started < 10
    assert digits.digest == "e6a8420a6f858a344d629f02cf9ee427f9b486ef543a445c2e386c93f9ceaee0"
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in STEMS:
        (raw / stem).write_bytes(gzip.decompress((mnist_root / f"{stem}.gz").read_bytes()))
    for part, train in ((digits.train, True), (digits.test, False)):
        reference = MNIST(tmp_path, train=train)
        assert torch.equal(part.images, reference.data)
        assert torch.equal(part.labels, reference.targets)
